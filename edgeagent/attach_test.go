package edgeagent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/kube"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/kubelet"
	"github.com/holdfast-dev/holdfast/edgeagent/store"
	"github.com/holdfast-dev/holdfast/test/fleetrepo"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

// kubeletHost is a kubelet's files as kubeadm lays them out, and an enrolment of their node.
type kubeletHost struct {
	t       *testing.T
	dir     string
	files   kubelet.Files
	options EnrollOptions
}

func newKubeletHost(t *testing.T, f *fleetrepo.Fleet) *kubeletHost {
	t.Helper()
	h := &kubeletHost{t: t}
	config := kubeconfig(t, "system:node:n1", false)
	h.dir = filepath.Dir(config)
	h.files = kubelet.Files{Kubeconfig: config, Config: filepath.Join(h.dir, "config.yaml"), CertDir: filepath.Join(h.dir, "pki")}
	h.must(os.Rename(filepath.Join(h.files.CertDir, "current.pem"), filepath.Join(h.files.CertDir, "kubelet-client-1.pem")))
	h.must(os.Symlink("kubelet-client-1.pem", filepath.Join(h.files.CertDir, "kubelet-client-current.pem")))
	raw, err := os.ReadFile(config)
	h.must(err)
	raw = bytes.ReplaceAll(raw, []byte("certificate-authority: pki/current.pem"), []byte("certificate-authority: pki/kubelet-client-1.pem"))
	h.must(os.WriteFile(config, bytes.ReplaceAll(raw, []byte("pki/current.pem"), []byte("pki/kubelet-client-current.pem")), 0o600))
	h.must(os.WriteFile(h.files.Config, []byte("kind: KubeletConfiguration\nrotateCertificates: true\n"), 0o644))
	h.options = EnrollOptions{
		State: filepath.Join(tempState(t), "s"), Node: "n1", Pool: "berlin", URL: f.URL, CA: f.CA, Branch: "main", Anchor: f.Anchor(),
		Kubeconfig: config, Proxy: &ProxyOptions{Kubelet: kubelet.Files{Config: h.files.Config, CertDir: h.files.CertDir}},
	}
	return h
}

func (h *kubeletHost) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *kubeletHost) snapshot() string {
	h.t.Helper()
	var out strings.Builder
	h.must(filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		fmt.Fprintf(&out, "%s %v\n%s\n", path, d.Type(), raw)
		return err
	}))
	return out.String()
}

// own gives what the agent logs in with.
func (h *kubeletHost) own() kube.Config {
	h.t.Helper()
	cfg, err := kube.Load(filepath.Join(h.options.State, credentialsDir, kubeconfigFile))
	h.must(err)
	_, err = nodeCredential(h.options.State, cfg).Certificate()
	h.must(err)
	return cfg
}

func (h *kubeletHost) behind() bool {
	h.t.Helper()
	cfg, err := kube.Load(h.files.Kubeconfig)
	h.must(err)
	return cfg.Server.String() == "https://127.0.0.1:6440"
}

func TestEnrollBehindTheProxy(t *testing.T) {
	f := fleetrepo.Start(t, gitserver.Config{Plain: true}, fleetrepo.One("berlin", "n1", "rack", "7"))
	h := newKubeletHost(t, f)
	before := h.snapshot()
	original, err := kube.Load(h.files.Kubeconfig)
	h.must(err)
	cert, err := original.Cert.Read()
	h.must(err)

	e, err := Enroll(t.Context(), h.options)
	if err != nil || e.Attached == nil || len(e.Warnings) != 0 || !h.behind() {
		t.Fatalf("%+v, %v", e, err)
	}
	cfg := h.own()
	got, err := cfg.Cert.Read()
	h.must(err)
	own := filepath.Join(h.options.State, credentialsDir, nodeCredentialFile)
	if cfg.Server.String() != original.Server.String() || cfg.Cert.File != own || cfg.Key.File != own || !bytes.Contains(cert, got[:100]) {
		t.Errorf("the agent logs in with %+v", cfg)
	}
	if info, err := os.Stat(own); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if !nodeCredential(h.options.State, cfg).Rotates() {
		t.Error("nobody renews the node's credential")
	}

	// Again: the kubelet's kubeconfig leads to the proxy now, and has nothing to offer.
	if e, err = Enroll(t.Context(), h.options); err != nil || !e.Already || e.Attached == nil {
		t.Fatalf("%+v, %v", e, err)
	}
	if again := h.own(); again.Server.String() != original.Server.String() || again.Cert.File != own {
		t.Errorf("the agent logs in with %+v", again)
	}
	// With a fresh kubeconfig from elsewhere the agent gets a new credential, and the kubelet stays where it is.
	fresh := h.options
	fresh.Kubeconfig = kubeconfig(t, "system:node:n1", true)
	if e, err = Enroll(t.Context(), fresh); err != nil || !h.behind() {
		t.Fatalf("%+v, %v", e, err)
	}
	newer, err := h.own().Cert.Read()
	if err != nil || bytes.Equal(newer, got) {
		t.Errorf("no new credential, %v", err)
	}
	standalone := h.options
	standalone.Kubeconfig = ""
	if _, err := Enroll(t.Context(), standalone); err == nil || !strings.Contains(err.Error(), "proxy detach before") {
		t.Errorf("%v", err)
	}

	// While the agent runs nothing is moved under it.
	a, err := Open(Options{Config: Config{State: h.options.State, Address: NoAddress, ProxyAddress: NoAddress, PodAddress: NoAddress}, API: newFakeAPI()})
	h.must(err)
	if _, err := Detach(h.options.State, ProxyOptions{}); !errors.Is(err, store.ErrInUse) {
		t.Errorf("%v", err)
	}
	h.must(a.Close())
	u, err := Unenroll(t.Context(), UnenrollOptions{State: h.options.State})
	if err != nil || !u.Detached || exists(h.options.State) {
		t.Fatalf("%+v, %v", u, err)
	}
	// The credential was newer than the kubelet's own.
	if len(u.Notes) != 1 || !strings.Contains(u.Notes[0], "renewed meanwhile") {
		t.Errorf("%q", u.Notes)
	}
	h.must(os.Remove(filepath.Join(h.files.CertDir, "kubelet-client-current.pem")))
	h.must(os.Symlink("kubelet-client-1.pem", filepath.Join(h.files.CertDir, "kubelet-client-current.pem")))
	made, err := filepath.Glob(filepath.Join(h.files.CertDir, "kubelet-client-2*.pem"))
	h.must(err)
	for _, path := range made {
		raw, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(raw, newer) {
			t.Errorf("%s is not the newer credential, %v", path, err)
		}
		h.must(os.Remove(path))
	}
	if len(made) != 1 || h.snapshot() != before {
		t.Errorf("%d new files; not as before:\n%s", len(made), h.snapshot())
	}
}

func TestAttachAndDetach(t *testing.T) {
	f := fleetrepo.Start(t, gitserver.Config{Plain: true}, fleetrepo.One("berlin", "n1", "rack", "7"))
	h := newKubeletHost(t, f)
	h.options.Proxy = nil
	state := h.options.State
	if _, err := Attach(state, ProxyOptions{Kubelet: h.files}); !errors.Is(err, store.ErrNotEnrolled) {
		t.Errorf("%v", err)
	}
	e, err := Enroll(t.Context(), h.options)
	if err != nil || e.Attached != nil || h.behind() {
		t.Fatalf("%+v, %v", e, err)
	}
	before, borrowed := h.snapshot(), h.own()
	if nodeCredential(state, borrowed).Rotates() {
		t.Error("the agent would renew what the kubelet renews")
	}
	if _, err := Detach(state, ProxyOptions{}); !errors.Is(err, kubelet.ErrNotAttached) {
		t.Errorf("%v", err)
	}
	for range 2 {
		if _, err := Attach(state, ProxyOptions{Kubelet: h.files}); err != nil || !h.behind() {
			t.Fatal(err)
		}
		if _, problems, err := CheckAttached(state); err != nil || len(problems) != 0 {
			t.Errorf("%q, %v", problems, err)
		}
	}
	if cfg := h.own(); cfg.Cert.File != filepath.Join(state, credentialsDir, nodeCredentialFile) {
		t.Errorf("%+v", cfg)
	}
	// The node's authorities are lost: checking says so, and attaching again mends it.
	h.must(os.RemoveAll(filepath.Join(state, tlsDir)))
	if _, problems, err := CheckAttached(state); err != nil || len(problems) != 1 {
		t.Errorf("%q, %v", problems, err)
	}
	h.must(identity.Make(filepath.Join(state, tlsDir), "n1"))
	if _, problems, err := CheckAttached(state); err != nil || len(problems) != 1 || !strings.Contains(problems[0], "other certificates") {
		t.Errorf("%q, %v", problems, err)
	}
	_, err = Attach(state, ProxyOptions{Kubelet: h.files})
	h.must(err)
	if _, problems, err := CheckAttached(state); err != nil || len(problems) != 0 {
		t.Errorf("%q, %v", problems, err)
	}

	// Where the proxy was is not the API server.
	if _, err = Attach(state, ProxyOptions{Kubelet: h.files, Address: "127.0.0.1:7440"}); err == nil || !strings.Contains(err.Error(), "proxy detach") {
		t.Errorf("%v", err)
	}
	if got := h.own().Server.String(); got != borrowed.Server.String() {
		t.Errorf("the agent asks %s, want %s", got, borrowed.Server)
	}
	if at, err := kubelet.Read(state); err != nil || at.Server != "https://"+DefaultProxyAddress || !h.behind() {
		t.Errorf("the kubelet asks %s, %v", at.Server, err)
	}

	notes, err := Detach(state, ProxyOptions{})
	if err != nil || len(notes) != 0 || h.snapshot() != before {
		t.Fatalf("%q, %v:\n%s", notes, err, h.snapshot())
	}
	if got := h.own(); got.Cert.File != borrowed.Cert.File || exists(filepath.Join(state, credentialsDir, nodeCredentialFile)) {
		t.Errorf("%+v", got)
	}
}

func TestEnrollThatCannotAttachLeavesNothingBehind(t *testing.T) {
	f := fleetrepo.Start(t, gitserver.Config{Plain: true}, fleetrepo.One("berlin", "n1", "rack", "7"))
	for name, c := range map[string]struct {
		prepare func(h *kubeletHost)
		want    string
	}{
		"configuration missing": {func(h *kubeletHost) { h.must(os.Remove(h.files.Config)) }, "no such file"},
		"interrupted by an error": {func(h *kubeletHost) { // the folder of the last step cannot be written to
			h.must(os.Mkdir(filepath.Join(h.files.CertDir, "kubelet-client-current.pem.before-holdfast.tmp"), 0o700))
			h.options.Proxy.Step = func(point string) {
				if point == "current" {
					h.must(os.Remove(filepath.Join(h.files.CertDir, "kubelet-client-current.pem")))
				}
			}
		}, "move the kubelet's certificate aside"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newKubeletHost(t, f)
			c.prepare(h)
			_, err := Enroll(t.Context(), h.options)
			if err == nil || !strings.Contains(err.Error(), c.want) || exists(h.options.State) || h.behind() {
				t.Errorf("%v; state is there: %v; behind the proxy: %v", err, exists(h.options.State), h.behind())
			}
			left, err := filepath.Glob(h.dir + "/*.before-holdfast")
			if err != nil || len(left) != 0 {
				t.Errorf("left behind: %q, %v", left, err)
			}
		})
	}
}

// TestStateOfAnOlderAgent: it has no key to add names with, and gets new authorities.
func TestStateOfAnOlderAgent(t *testing.T) {
	f := fleetrepo.Start(t, gitserver.Config{Plain: true}, fleetrepo.One("berlin", "n1", "rack", "7"))
	state := tempState(t)
	enroll(t, f, state, "n1", "berlin")
	for _, file := range []string{"ca.key", "client-ca.crt", "kubelet.crt", "kubelet.key"} {
		if err := os.Remove(filepath.Join(state, tlsDir, file)); err != nil {
			t.Fatal(err)
		}
	}
	a, err := Open(Options{Config: Config{State: state, Address: "127.0.0.1:0", ProxyAddress: NoAddress, PodAddress: NoAddress}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := identity.Load(filepath.Join(state, tlsDir)); err != nil {
		t.Error(err)
	}
}

// TestRenewedSince: a kubelet gets the newer certificate only if it was renewed, and its own is of no use to it.
func TestRenewedSince(t *testing.T) {
	f := fleetrepo.Start(t, gitserver.Config{Plain: true}, fleetrepo.One("berlin", "n1", "rack", "7"))
	h := newKubeletHost(t, f)
	_, err := Enroll(t.Context(), h.options)
	h.must(err)
	at, err := kubelet.Read(h.options.State)
	h.must(err)
	if r, err := renewedSince(h.options.State, at, time.Now()); err != nil || r.PEM != nil || r.Kubeconfig != nil {
		t.Errorf("nothing was renewed: %+v, %v", r, err)
	}
	if r, err := renewedSince(h.options.State, at, time.Now().Add(2*time.Hour)); err != nil || r.PEM != nil || r.Kubeconfig != nil {
		t.Errorf("expired, and nothing was renewed: %+v, %v", r, err)
	}
	newer, err := kube.Load(kubeconfig(t, "system:node:n1", false))
	h.must(err)
	h.must(keepCredential(h.options.State, newer))
	if r, err := renewedSince(h.options.State, at, time.Now()); err != nil || r.PEM == nil || r.Kubeconfig != nil {
		t.Errorf("renewed: %+v, %v", r, err)
	}
	at.Rotated = false
	if r, err := renewedSince(h.options.State, at, time.Now()); err != nil || r.PEM != nil {
		t.Errorf("renewed, but the kubelet's own is good: %+v, %v", r, err)
	}
	r, err := renewedSince(h.options.State, at, time.Now().Add(2*time.Hour))
	if err != nil || r.PEM == nil || r.Kubeconfig == nil {
		t.Fatalf("renewed, and the kubelet's own has expired: %+v, %v", r, err)
	}
	at.Rotated = true
	h.must(os.Remove(at.Now(filepath.Join(h.files.CertDir, "kubelet-client-current.pem"))))
	if r, err := renewedSince(h.options.State, at, time.Now()); err != nil || r.PEM == nil || r.Kubeconfig != nil {
		t.Errorf("the kubelet's own is gone: %+v, %v", r, err)
	}
	raw, err := r.Kubeconfig("/pki/newer.pem")
	if err != nil || !bytes.Contains(raw, []byte("client-certificate: /pki/newer.pem")) || !bytes.Contains(raw, []byte("https://127.0.0.1:1")) {
		t.Errorf("%s, %v", raw, err)
	}
}
