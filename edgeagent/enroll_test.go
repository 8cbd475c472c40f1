package edgeagent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/store"
	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/test/fleetrepo"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

// kubeconfig writes one for a user, with a certificate inline, or as files beside it.
func kubeconfig(t *testing.T, user string, inline bool) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: user, Organization: []string{"system:nodes"}}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	// As kubelet-client-current.pem: certificate and key in one file.
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	dir := t.TempDir()
	material := "client-certificate: pki/current.pem\n    client-key: pki/current.pem"
	if inline {
		data := base64.StdEncoding.EncodeToString(both)
		material = "client-certificate-data: " + data + "\n    client-key-data: " + data
	}
	config := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: default
contexts: [{name: default, context: {cluster: c, user: u, namespace: default}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1", certificate-authority: pki/current.pem}}]
users:
- name: u
  user:
    %s
`, material)
	for name, data := range map[string][]byte{"pki/current.pem": both, "kubelet.conf": []byte(config)} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "kubelet.conf")
}

func TestEnroll(t *testing.T) {
	f := fleetrepo.Start(t, gitserver.Config{Username: "edge", Password: "secret"}, fleetrepo.One("berlin", "n1", "rack", "7"))
	auth := filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(auth, []byte("username: edge\npassword: secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(tempState(t), "deep", "state")
	o := EnrollOptions{State: state, Node: "n1", URL: f.URL, CA: f.CA, RepoAuth: auth, Branch: "main", Anchor: f.Anchor(), Kubeconfig: kubeconfig(t, "system:node:n1", false)}
	e, err := Enroll(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if e.Fleet != verifytest.Fleet || e.Pool != "berlin" || e.Revision != f.Anchor() || e.Already || len(e.Warnings) != 0 || e.Standalone || e.PlanDigest == "" {
		t.Fatalf("%+v", e)
	}
	for path, mode := range map[string]os.FileMode{".": 0o700, "state.db": 0o600, "state.copy": 0o600, "repo": 0o700, "credentials": 0o700, "credentials/repo-auth.yaml": 0o600, "credentials/kubeconfig": 0o600, "tls": 0o700, "tls/server.key": 0o600} {
		info, err := os.Stat(filepath.Join(state, path))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode(), err, mode)
		}
	}
	raw, err := os.ReadFile(filepath.Join(state, "credentials/kubeconfig"))
	if err != nil || !bytes.Contains(raw, []byte(filepath.Dir(o.Kubeconfig)+"/pki/current.pem")) {
		t.Fatalf("the certificate, which the kubelet replaces, is not named by its absolute path: %v\n%s", err, raw)
	}

	// Again: nothing changes but what may.
	o.Kubeconfig = kubeconfig(t, "system:node:n1", true)
	if e, err = Enroll(t.Context(), o); err != nil || !e.Already || e.PlanDigest == "" {
		t.Fatalf("%+v, %v", e, err)
	}
	if raw, err = os.ReadFile(filepath.Join(state, "credentials/kubeconfig")); err != nil || !bytes.Contains(raw, []byte("client-key-data")) {
		t.Fatalf("the new kubeconfig is not there: %v\n%s", err, raw)
	}
	other := f.Set(fleetrepo.One("berlin", "n1", "rack", "8"))
	for what, change := range map[string]func(*EnrollOptions){
		"anchor": func(o *EnrollOptions) { o.Anchor = other },
		"node":   func(o *EnrollOptions) { o.Node, o.Kubeconfig = "n2", "" },
	} {
		wrong := o
		change(&wrong)
		if _, err := Enroll(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), "unenroll first") {
			t.Errorf("another %s: %v", what, err)
		}
	}
	// The agent is at the plan without any network.
	if err := f.Git.Down(); err != nil {
		t.Fatal(err)
	}
	api := newFakeAPI()
	a, err := Open(Options{Config: Config{State: state, Address: NoAddress, ProxyAddress: NoAddress, PodAddress: NoAddress}, API: api})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := Enroll(t.Context(), o); !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), "systemctl stop") {
		t.Fatalf("while the agent has the state: %v", err)
	}
	a.enforce(a.store.State().InForce.Plan)
	if a.store.State().InForce.Plan.Labels["rack"] != "7" {
		t.Fatal("no plan was stored")
	}
}

func TestEnrollLeavesNothingBehindIfAnythingIsWrong(t *testing.T) {
	f := fleetrepo.Start(t, gitserver.Config{}, fleetrepo.One("berlin", "n1", "rack", "7"))
	side := f.Commit(verifytest.Commit{Parents: []string{f.Anchor()}, Files: verifytest.Files{"x": "y"}, By: f.Key("alice"), Detached: true})
	f.Set(fleetrepo.One("berlin", "n1", "rack", "8"))
	blob := f.Write("blob", []byte("x"))
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		change func(*EnrollOptions)
		want   string // in the error
		reason string
	}{
		"no such anchor":      {func(o *EnrollOptions) { o.Anchor = strings.Repeat("e", 40) }, "anchor eeee", ""},
		"anchor on the side":  {func(o *EnrollOptions) { o.Anchor = side }, "anchor " + side, ""},
		"anchor is no commit": {func(o *EnrollOptions) { o.Anchor = blob }, "anchor " + blob, ""},
		"anchor is a branch":  {func(o *EnrollOptions) { o.Anchor = "main" }, "not a commit id of 40 hex digits", ""},
		"node name":           {func(o *EnrollOptions) { o.Node = "N_1" }, "not a node name", ""},
		"branch":              {func(o *EnrollOptions) { o.Branch = "nope" }, "nope", condition.ReasonBranchMissing},
		"no server":           {func(o *EnrollOptions) { o.URL = "https://127.0.0.1:1/fleet.git" }, "127.0.0.1:1", condition.ReasonUnreachable},
		"a path":              {func(o *EnrollOptions) { o.URL = "/srv/git/fleet.git" }, "is a path", ""},
		"untrusted server":    {func(o *EnrollOptions) { o.CA = "" }, "certificate", ""},
		"credentials":         {func(o *EnrollOptions) { o.RepoAuth = file("pasword: x\n") }, "pasword", ""},
		"credentials missing": {func(o *EnrollOptions) { o.RepoAuth = "/nonexistent" }, "--repo-auth", ""},
		"kubeconfig, no file": {func(o *EnrollOptions) { o.Kubeconfig = "/nonexistent" }, "/nonexistent", ""},
		"kubeconfig, not one": {func(o *EnrollOptions) { o.Kubeconfig = file("hello") }, "not a kubeconfig", ""},
		"kubeconfig, other":   {func(o *EnrollOptions) { o.Kubeconfig = kubeconfig(t, "system:node:n2", true) }, `logs in as "system:node:n2", not as "system:node:n1"`, ""},
		"kubeconfig of admin": {func(o *EnrollOptions) { o.Kubeconfig = kubeconfig(t, "kubernetes-admin", true) }, `logs in as "kubernetes-admin"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, folder := range []string{"missing", "there"} {
				state := filepath.Join(tempState(t), "state")
				if folder == "there" {
					if err := errors.Join(os.Mkdir(state, 0o755), os.WriteFile(filepath.Join(state, "mine"), nil, 0o600)); err != nil {
						t.Fatal(err)
					}
				}
				o := EnrollOptions{State: state, Node: "n1", Pool: "berlin", URL: f.URL, CA: f.CA, Branch: "main", Anchor: f.Anchor()}
				c.change(&o)
				_, err := Enroll(t.Context(), o)
				if err == nil || !strings.Contains(err.Error(), c.want) || (c.reason != "" && reasonOf(err) != c.reason) {
					t.Fatalf("got %v (%s)", err, reasonOf(err))
				}
				left := []string{}
				entries, err := os.ReadDir(state)
				for _, e := range entries {
					left = append(left, e.Name())
				}
				if folder == "missing" && !errors.Is(err, os.ErrNotExist) || folder == "there" && !slices.Equal(left, []string{"mine"}) {
					t.Fatalf("left behind: %v, %v", left, err)
				}
			}
		})
	}
}

func TestEnrollWarnsOfWhatKeepsTheNodeFromItsPlan(t *testing.T) {
	f := fleetrepo.Start(t, gitserver.Config{Plain: true}, fleetrepo.One("berlin", "n1", "rack", "7"))
	e := enroll(t, f, tempState(t), "stranger", "berlin")
	if len(e.Warnings) != 1 || !strings.Contains(e.Warnings[0], "does not name node stranger") {
		t.Fatalf("%+v", e)
	}
	f.PushUnsigned(verifytest.Files{"x": "y"})
	state := tempState(t)
	e = enroll(t, f, state, "n1", "berlin")
	if len(e.Warnings) != 1 || !strings.Contains(e.Warnings[0], verify.Unsigned) || e.Revision != f.Anchor() {
		t.Fatalf("%+v", e)
	}
}

func TestUnenroll(t *testing.T) {
	f := fleetrepo.Start(t, gitserver.Config{Plain: true}, fleetrepo.One("berlin", "n1", "rack", "7"))
	state := tempState(t)
	enroll(t, f, state, "n1", "berlin")
	st, err := store.Open(state, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Unenroll(t.Context(), UnenrollOptions{State: state}); !errors.Is(err, store.ErrInUse) {
		t.Fatalf("while it runs: %v", err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	u, err := Unenroll(t.Context(), UnenrollOptions{State: state})
	if err != nil || u.Node != "n1" || u.LeftBehind != nil {
		t.Fatalf("%+v, %v", u, err)
	}
	if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
		entries, _ := os.ReadDir(state)
		t.Fatalf("left behind: %v", entries)
	}
	if _, err := Unenroll(t.Context(), UnenrollOptions{State: state}); !errors.Is(err, store.ErrNotEnrolled) {
		t.Fatalf("a second time: %v", err)
	}
}

func TestUnenrollWithoutAnAPIServerSaysWhatIsLeft(t *testing.T) {
	f := fleetrepo.Start(t, gitserver.Config{Plain: true}, fleetrepo.One("berlin", "n1", "rack", "7"))
	state := tempState(t)
	_, err := Enroll(t.Context(), EnrollOptions{State: state, Node: "n1", Pool: "berlin", URL: f.URL, Branch: "main", Anchor: f.Anchor(), Kubeconfig: kubeconfig(t, "system:node:n1", true)})
	if err != nil {
		t.Fatal(err)
	}
	u, err := Unenroll(t.Context(), UnenrollOptions{State: state})
	if err != nil || u.Unmarked || reasonOf(u.LeftBehind) != condition.ReasonAPIUnreachable {
		t.Fatalf("%+v, %v", u, err)
	}
}
