package kube_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/edgeagent/kube"
	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is an API server that asks for client certificates, and tells who came.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	users   []string
	handler http.HandlerFunc
}

func start(t *testing.T, h http.HandlerFunc) *server {
	t.Helper()
	s := &server{handler: h}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			user = r.TLS.PeerCertificates[0].Subject.CommonName
		} else if token := r.Header.Get("Authorization"); token != "" {
			user = token
		}
		s.mu.Lock()
		s.users = append(s.users, user)
		h := s.handler
		s.mu.Unlock()
		h(w, r)
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *server) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.users[len(s.users)-1]
}

// certificate writes certificate and key of a user into one file, as the kubelet does.
func certificate(t *testing.T, path, user string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: user}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	if err := os.WriteFile(path+".tmp", both, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

// client gives a client of s whose user is the given YAML, with paths relative to the kubeconfig.
func client(t *testing.T, s *server, dir, user string) *kube.Client {
	t.Helper()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	config := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: %q, certificate-authority: ca.crt}}]\nusers: [{name: u, user: %s}]\n", s.URL, user)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "ca.crt"), ca, 0o600), os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600)); err != nil {
		t.Fatal(err)
	}
	cfg, err := kube.Load(filepath.Join(dir, "config"))
	if err != nil {
		t.Fatal(err)
	}
	// What enrolment keeps of a kubeconfig says the same.
	kept, err := cfg.Copy()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(elsewhere, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if cfg, err = kube.Load(elsewhere); err != nil {
		t.Fatal(err)
	}
	c := kube.New(cfg, "holdfast-agent/test")
	t.Cleanup(c.Close)
	return c
}

func TestRequests(t *testing.T) {
	dir := t.TempDir()
	certificate(t, filepath.Join(dir, "current.pem"), "system:node:n1")
	var got *http.Request
	var body []byte
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		fmt.Fprint(w, `{"metadata":{"uid":"u1"},"status":{"userInfo":{"username":"system:node:n1"}}}`)
	})
	c := client(t, s, dir, "{client-certificate: current.pem, client-key: current.pem}")
	var node struct{ Metadata struct{ UID string } }
	if err := c.Get(t.Context(), "/api/v1/nodes/n1", &node); err != nil || node.Metadata.UID != "u1" || s.last() != "system:node:n1" {
		t.Fatalf("%+v, %v, as %s", node, err, s.last())
	}
	if got.ProtoMajor != 2 || got.URL.Path != "/api/v1/nodes/n1" || !strings.HasPrefix(got.Header.Get("Accept"), "application/json;as=PartialObjectMetadata") || got.UserAgent() != "holdfast-agent/test" {
		t.Fatalf("%s %s %v", got.Proto, got.URL, got.Header)
	}
	if err := c.Apply(t.Context(), "/api/v1/nodes/n1", "holdfast-agent", true, map[string]string{"kind": "Node"}); err != nil {
		t.Fatal(err)
	}
	if got.Method != "PATCH" || got.URL.RawQuery != "dryRun=All&fieldManager=holdfast-agent&force=true" || got.Header.Get("Content-Type") != "application/apply-patch+yaml" || string(body) != `{"kind":"Node"}` {
		t.Fatalf("%s %s %s %s", got.Method, got.URL, got.Header, body)
	}
	if user, err := c.User(t.Context()); err != nil || user != "system:node:n1" || got.URL.Path != "/apis/authentication.k8s.io/v1/selfsubjectreviews" {
		t.Fatalf("%s, %v, %s", user, err, got.URL)
	}
}

func TestErrorsCarryReasons(t *testing.T) {
	dir := t.TempDir()
	code := 0
	s := start(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprint(w, `{"kind":"Status","message":"because"}`)
	})
	c := client(t, s, dir, "{token: t}")
	for status, reason := range map[int]string{
		401: condition.ReasonUnauthorized, 403: condition.ReasonForbidden, 404: condition.ReasonNotFound, 409: condition.ReasonConflict,
		422: condition.ReasonInvalid, 429: condition.ReasonAPIUnreachable, 500: condition.ReasonAPIUnreachable, 503: condition.ReasonAPIUnreachable,
	} {
		code = status
		err := c.Get(t.Context(), "/api/v1/nodes/n1", &struct{}{})
		var e *kube.Error
		if !errors.As(err, &e) || e.Code != status || reconciler.Reason(err) != reason || !strings.Contains(err.Error(), "because") {
			t.Errorf("%d: %v (%s)", status, err, reconciler.Reason(err))
		}
	}
	s.Close()
	if err := c.Get(t.Context(), "/x", &struct{}{}); reconciler.Reason(err) != condition.ReasonAPIUnreachable {
		t.Errorf("down: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Get(ctx, "/x", &struct{}{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestRotatedCertificateIsUsed(t *testing.T) {
	dir := t.TempDir()
	pemFile := filepath.Join(dir, "current.pem")
	certificate(t, pemFile, "old")
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.PeerCertificates[0].Subject.CommonName == "old" && r.URL.Path == "/expired" {
			w.WriteHeader(401)
			return
		}
		fmt.Fprint(w, "{}")
	})
	c := client(t, s, dir, "{client-certificate: current.pem, client-key: current.pem}")
	if err := c.Get(t.Context(), "/x", &struct{}{}); err != nil || s.last() != "old" {
		t.Fatalf("%v, as %s", err, s.last())
	}
	certificate(t, pemFile, "new")
	// A certificate that the server does not take any more is replaced at once.
	if err := c.Get(t.Context(), "/expired", &struct{}{}); err != nil || s.last() != "new" {
		t.Fatalf("%v, as %s", err, s.last())
	}
}

func TestTokenFileIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	s := start(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") })
	c := client(t, s, dir, "{tokenFile: token}")
	for _, token := range []string{"one", "two"} {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.Get(t.Context(), "/x", &struct{}{}); err != nil || s.last() != "Bearer "+token {
			t.Fatalf("%v, as %s", err, s.last())
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), "/x", &struct{}{}); reconciler.Reason(err) != condition.ReasonUnauthorized {
		t.Fatalf("without the file: %v", err)
	}
}

func TestWatch(t *testing.T) {
	var query string
	events := []string{
		`{"type":"ADDED","object":{"metadata":{"name":"n1"}}}`,
		`{"type":"BOOKMARK","object":{}}`,
		`{"type":"MODIFIED","object":{"metadata":{"name":"n1","labels":{"a":"b"}}}}`,
		`{"type":"DELETED","object":{}}`,
	}
	end := "\n"
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.RawQuery
		fmt.Fprint(w, strings.Join(events, "\n")+end)
	})
	c := client(t, s, t.TempDir(), "{token: t}")
	watch := func() (seen []string, err error) {
		err = c.Watch(t.Context(), "/api/v1/nodes", "n1", func(raw json.RawMessage) { seen = append(seen, string(raw)) })
		return seen, err
	}
	seen, err := watch()
	if err != nil || len(seen) != 3 || seen[0] != `{"metadata":{"name":"n1"}}` || seen[2] != "" {
		t.Fatalf("%q, %v", seen, err)
	}
	if !strings.Contains(query, "fieldSelector=metadata.name%3Dn1") || !strings.Contains(query, "timeoutSeconds=") || !strings.Contains(query, "resourceVersion=0") {
		t.Fatalf("query %s", query)
	}
	end = "\n{\"type\":\"MODI"
	if _, err = watch(); reconciler.Reason(err) != condition.ReasonAPIUnreachable {
		t.Fatalf("a stream cut short: %v", err)
	}
	events, end = []string{`{"type":"ERROR","object":{"code":403,"message":"no"}}`}, "\n"
	if _, err = watch(); reconciler.Reason(err) != condition.ReasonForbidden {
		t.Fatalf("an error on the stream: %v", err)
	}
	events = []string{`{"type":"ADDED","object":"` + strings.Repeat("x", 5<<20) + `"}`}
	if _, err = watch(); reconciler.Reason(err) != condition.ReasonAPIUnreachable {
		t.Fatalf("an endless event: %v", err)
	}
}

func TestKubeconfigsThatAreRefused(t *testing.T) {
	good := map[string]string{
		"context": "contexts: [{name: x, context: {cluster: c, user: u}}]", "current": "current-context: x",
		"cluster": `clusters: [{name: c, cluster: {server: "https://h:1"}}]`, "user": "users: [{name: u, user: {token: t}}]",
	}
	for name, c := range map[string]struct{ part, text, want string }{
		"good":        {"", "", ""},
		"no context":  {"current", "current-context: z", `no context "z"`},
		"no cluster":  {"cluster", "clusters: []", `cluster "c"`},
		"no user":     {"user", "users: []", `user "u"`},
		"plain http":  {"cluster", `clusters: [{name: c, cluster: {server: "http://h:1"}}]`, "https"},
		"insecure":    {"cluster", `clusters: [{name: c, cluster: {server: "https://h:1", insecure-skip-tls-verify: true}}]`, "insecure-skip-tls-verify"},
		"exec":        {"user", "users: [{name: u, user: {exec: {command: x}}}]", "exec plugin"},
		"password":    {"user", "users: [{name: u, user: {username: x, password: y}}]", "password"},
		"nothing":     {"user", "users: [{name: u, user: {}}]", "neither a client certificate nor a token"},
		"half a pair": {"user", "users: [{name: u, user: {client-certificate: x}}]", "belong together"},
		"not YAML":    {"user", "users: [", "not a kubeconfig"},
	} {
		t.Run(name, func(t *testing.T) {
			text := ""
			for part, line := range good {
				if part == c.part {
					line = c.text
				}
				text += line + "\n"
			}
			path := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := kube.Load(path)
			if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path)) {
				t.Fatalf("got %v", err)
			}
		})
	}
}
