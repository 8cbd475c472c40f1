package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// apiServer answers what Maintenance asks for.
type apiServer struct {
	t  testing.TB
	ca *x509.Certificate
	by *ecdsa.PrivateKey

	mu       sync.Mutex
	asked    []string
	requests map[string]csr // by name
	posted   func(name string)
	sign     func(name string, request *x509.CertificateRequest, answer *csr) // decides
	forbid   bool
	down     bool
	jwks     string
}

func newAPIServer(t testing.TB) *apiServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cluster"}, NotBefore: time.Unix(0, 0), NotAfter: never, IsCA: true, BasicConstraintsValid: true}
	s := &apiServer{t: t, ca: ca, by: key, requests: map[string]csr{}, jwks: `{"keys":[]}`}
	s.sign = s.approve
	return s
}

func (s *apiServer) certificate(public any, name string, from time.Time, life time.Duration) []byte {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(from.UnixNano()), Subject: pkix.Name{CommonName: name, Organization: []string{"system:nodes"}},
		NotBefore: from, NotAfter: from.Add(life), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.ca, public, s.by)
	if err != nil {
		s.t.Error(err)
	}
	return pem.EncodeToMemory(certBlock(der))
}

func (s *apiServer) approve(_ string, r *x509.CertificateRequest, answer *csr) {
	answer.Status.Certificate = s.certificate(r.PublicKey, r.Subject.CommonName, time.Now(), 365*24*time.Hour)
}

func deny(_ string, _ *x509.CertificateRequest, answer *csr) {
	answer.Status.Conditions = append(answer.Status.Conditions, struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}{"Denied", "no"})
}

func (s *apiServer) RoundTrip(r *http.Request, asNode bool) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !asNode || r.URL.Host != "" {
		s.t.Errorf("%s %s, as the node: %v", r.Method, r.URL, asNode)
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if s.down {
		return nil, errors.New("no API server answers")
	}
	s.asked = append(s.asked, r.Method+" "+r.URL.Path)
	if accept := r.Header.Get("Accept"); r.URL.Path == JWKSPath && accept != "application/jwk-set+json" { // as kube-apiserver
		return &http.Response{StatusCode: http.StatusNotAcceptable, Status: "406 Not Acceptable", Body: http.NoBody}, nil
	}
	code, body := http.StatusOK, any(nil)
	switch path := r.URL.Path; {
	case path == DiscoveryPath:
		body = map[string]any{"issuer": issuer}
	case path == JWKSPath && s.forbid:
		code, body = http.StatusForbidden, map[string]any{"message": "nodes may not"}
	case path == JWKSPath:
		body = json.RawMessage(s.jwks)
	case path == "/api/v1/namespaces/default/services/kubernetes":
		body = map[string]any{"spec": map[string]any{"clusterIP": "10.96.0.1", "clusterIPs": []string{"10.96.0.1", "fd00::1"}}}
	case r.Method == http.MethodPost && path == csrPath:
		code, body = s.post(r)
	case strings.HasPrefix(path, csrPath+"/"):
		got, ok := s.requests[strings.TrimPrefix(path, csrPath+"/")]
		if body = got; !ok {
			code, body = http.StatusNotFound, map[string]any{"message": "not found"}
		}
	default:
		code = http.StatusNotFound
	}
	raw, err := json.Marshal(body)
	return &http.Response{StatusCode: code, Status: http.StatusText(code), Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(raw)))}, err
}

func (s *apiServer) post(r *http.Request) (int, any) {
	var in struct {
		Metadata struct{ Name string }
		Spec     csrSpec
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		s.t.Error(err)
	}
	block, _ := pem.Decode(in.Spec.Request)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = request.CheckSignature()
	}
	// What kube-controller-manager's approver demands of a node that renews its own certificate.
	if err != nil || in.Spec.SignerName != "kubernetes.io/kube-apiserver-client-kubelet" || !slices.Equal(in.Spec.Usages, []string{"digital signature", "client auth"}) ||
		!slices.Equal(request.Subject.Organization, []string{"system:nodes"}) || len(request.DNSNames)+len(request.IPAddresses)+len(request.EmailAddresses)+len(request.URIs) > 0 {
		s.t.Errorf("%+v, %+v, %v", in.Spec, request, err)
	}
	if s.posted != nil {
		s.posted(in.Metadata.Name)
	}
	if _, ok := s.requests[in.Metadata.Name]; ok {
		return http.StatusConflict, map[string]any{"message": "already exists"}
	}
	answer := csr{Spec: in.Spec}
	s.sign(in.Metadata.Name, request, &answer)
	s.requests[in.Metadata.Name] = answer
	return http.StatusCreated, answer
}

// node is a node with a credential that was issued just now and lasts a year.
type node struct {
	*Maintenance
	server *apiServer
	path   string
	kept   map[string]string
}

func newNode(t testing.TB) *node {
	t.Helper()
	n := &node{server: newAPIServer(t), path: filepath.Join(t.TempDir(), "node.pem"), kept: map[string]string{}}
	block, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	key := pem.EncodeToMemory(block)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	cert := n.server.certificate(parsed.(*ecdsa.PrivateKey).Public(), "system:node:n1", time.Now(), 365*24*time.Hour)
	if err := WriteCredential(n.path, cert, key); err != nil {
		t.Fatal(err)
	}
	a, _ := authority(t, "n1")
	n.Maintenance = n.restarted()
	n.Authority = a
	return n
}

// restarted gives what a new process has.
func (n *node) restarted() *Maintenance {
	m := &Maintenance{
		Node: "n1", Credential: OpenCredential(n.path), Upstream: n.server, Online: func() bool { return true },
		Document: func(path string) []byte {
			if body, ok := n.kept[path]; ok {
				return []byte(body)
			}
			return nil
		},
		Keep: func(path, contentType string, body []byte) { n.kept[path] = string(body) },
		Log:  slog.New(slog.DiscardHandler), Now: time.Now, After: time.After,
	}
	if n.Maintenance != nil {
		m.Authority = n.Authority
	}
	return m
}

func (n *node) file(t testing.TB) string {
	t.Helper()
	raw, err := os.ReadFile(n.path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestPassKeepsWhatAnOutageNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		before := n.file(t)
		if err := n.pass(t.Context()); err != nil || n.Problem() != nil {
			t.Fatal(err, n.Problem())
		}
		if n.kept[JWKSPath] != `{"keys":[]}` || !strings.Contains(n.kept[DiscoveryPath], issuer) {
			t.Errorf("%q", n.kept)
		}
		leaf := n.Authority.server.Load().Leaf
		for _, ip := range []string{"10.96.0.1", "fd00::1"} {
			if err := leaf.VerifyHostname(ip); err != nil {
				t.Error(err)
			}
		}
		if n.file(t) != before || len(n.server.requests) != 0 {
			t.Error("the credential was renewed before it was time")
		}
		// What did not change is not kept again; what upstream breaks is not kept at all.
		n.Keep = func(path, _ string, _ []byte) { t.Errorf("kept %s again", path) }
		if err := n.pass(t.Context()); err != nil {
			t.Error(err)
		}
		n.server.jwks = `"x"`
		if err := n.pass(t.Context()); err == nil {
			t.Error("a key set that is none was kept")
		}
		n.server.forbid = true
		var p *Problem
		if err := n.pass(t.Context()); err == nil || !errors.As(n.Problem(), &p) || p.StableReason() != condition.ReasonIdentityNotKept || !strings.Contains(p.Error(), "`holdfast install` lets nodes read it") {
			t.Errorf("%v", n.Problem())
		}
	})
}

func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		old := n.file(t)
		at, err := n.Credential.RenewAt()
		if err != nil {
			t.Fatal(err)
		}
		life := 365 * 24 * time.Hour
		if wait := time.Until(at); wait < life*74/100 || wait > life*86/100 {
			t.Errorf("renewed after %v", wait)
		}
		time.Sleep(time.Until(at) - time.Second)
		if err := n.pass(t.Context()); err != nil || n.file(t) != old {
			t.Fatalf("renewed too early, %v", err)
		}
		time.Sleep(2 * time.Second)
		n.server.posted = func(string) {
			if raw, err := os.ReadFile(n.path + ".next"); err != nil || !strings.Contains(string(raw), "PRIVATE KEY") {
				t.Errorf("the new key is not on disk before it is used: %v", err)
			}
		}
		if err := n.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		cert, err := n.Credential.Certificate()
		if err != nil || time.Until(cert.Leaf.NotAfter) < life-time.Minute || n.file(t) == old {
			t.Fatalf("not renewed: %v", err)
		}
		if _, err := os.Stat(n.path + ".next"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the new key was left behind: %v", err)
		}
		if err := n.pass(t.Context()); err != nil || len(n.server.requests) != 1 {
			t.Errorf("%d requests, %v", len(n.server.requests), err)
		}
	})
}

// TestRenewalThatIsInterrupted: the process ends after it asked; the next one goes on with the same key and request.
func TestRenewalThatIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		old := n.file(t)
		time.Sleep(320 * 24 * time.Hour)
		n.server.sign = func(string, *x509.CertificateRequest, *csr) {} // not yet
		err := n.pass(t.Context())
		if err == nil || !strings.Contains(err.Error(), "kubectl certificate approve holdfast-") || n.file(t) != old {
			t.Fatalf("%v", err)
		}
		var p *Problem
		if !errors.As(n.Problem(), &p) || p.Reason != condition.ReasonCredentialNotRenewed {
			t.Errorf("%v", n.Problem())
		}
		key, err := os.ReadFile(n.path + ".next")
		if err != nil {
			t.Fatal(err)
		}
		for name, r := range n.server.requests { // somebody approves it
			block, _ := pem.Decode(r.Spec.Request)
			request, err := x509.ParseCertificateRequest(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			n.server.approve(name, request, &r)
			n.server.requests[name] = r
		}
		again := n.restarted()
		if err := again.pass(t.Context()); err != nil || len(n.server.requests) != 1 || again.Problem() != nil {
			t.Fatalf("%d requests, %v", len(n.server.requests), err)
		}
		if !strings.Contains(n.file(t), string(key)) {
			t.Error("another key is in use")
		}
	})
}

func TestRenewalThatGoesWrong(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		sign func(s *apiServer) func(string, *x509.CertificateRequest, *csr)
		want string
	}{
		"denied": {func(*apiServer) func(string, *x509.CertificateRequest, *csr) { return deny }, "is Denied: no"},
		"of another node": {func(s *apiServer) func(string, *x509.CertificateRequest, *csr) {
			return func(_ string, r *x509.CertificateRequest, a *csr) {
				a.Status.Certificate = s.certificate(r.PublicKey, "system:node:n2", time.Now(), time.Hour)
			}
		}, `for "system:node:n2"`},
		"of another key": {func(s *apiServer) func(string, *x509.CertificateRequest, *csr) {
			return func(_ string, r *x509.CertificateRequest, a *csr) {
				a.Status.Certificate = s.certificate(other.Public(), r.Subject.CommonName, time.Now(), time.Hour)
			}
		}, "private key does not match"},
		"not a certificate": {func(*apiServer) func(string, *x509.CertificateRequest, *csr) {
			return func(_ string, _ *x509.CertificateRequest, a *csr) { a.Status.Certificate = []byte("x") }
		}, "failed to find any PEM data"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				old := n.file(t)
				time.Sleep(320 * 24 * time.Hour)
				n.server.sign = c.sign(n.server)
				if err := n.pass(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) || n.file(t) != old {
					t.Fatalf("%v; want %q", err, c.want)
				}
				n.server.sign = n.server.approve // the next attempt is another request
				if err := n.pass(t.Context()); err != nil || len(n.server.requests) != 2 || n.file(t) == old {
					t.Errorf("%d requests, %v", len(n.server.requests), err)
				}
			})
		})
	}
}

// TestClockThatIsAhead: what the cluster signs now is good whatever the node's clock says, and is not asked for again and again. What
// it signed long ago is not.
func TestClockThatIsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		old := n.file(t)
		n.Now = func() time.Time { return time.Now().Add(20 * 365 * 24 * time.Hour) }
		for range 5 {
			if err := n.pass(t.Context()); err != nil || len(n.server.requests) != 1 || n.file(t) == old {
				t.Fatalf("%d requests, %v", len(n.server.requests), err)
			}
			time.Sleep(time.Hour)
		}

		n = newNode(t)
		time.Sleep(320 * 24 * time.Hour)
		old = n.file(t)
		n.server.sign = func(_ string, r *x509.CertificateRequest, a *csr) {
			a.Status.Certificate = n.server.certificate(r.PublicKey, r.Subject.CommonName, time.Now().Add(-2*time.Hour), time.Hour)
		}
		key, err := n.nextKey()
		if err != nil {
			t.Fatal(err)
		}
		request, name, err := n.request(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := n.signed(t.Context(), name, request); err != nil { // by a process that ended then
			t.Fatal(err)
		}
		if err := n.pass(t.Context()); err == nil || !strings.Contains(err.Error(), "it expired") || n.file(t) != old {
			t.Fatalf("%v", err)
		}
		n.server.sign = n.server.approve
		if err := n.pass(t.Context()); err != nil || len(n.server.requests) != 2 || n.file(t) == old {
			t.Errorf("%d requests, %v", len(n.server.requests), err)
		}
	})
}

func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		time.Sleep(366 * 24 * time.Hour)
		n.server.down = true
		n.Online = func() bool { return false }
		if err := n.pass(t.Context()); err == nil {
			t.Error("no API server answers, and nothing was said")
		}
		var p *Problem
		if !errors.As(n.Problem(), &p) || p.Reason != condition.ReasonCredentialExpired || !strings.Contains(p.Error(), "enroll with a fresh --kubeconfig") || !strings.Contains(p.Error(), "no API server answers") {
			t.Errorf("%v", n.Problem())
		}
		if _, err := n.Credential.Certificate(); err != nil {
			t.Errorf("an expired credential is still one: upstream decides: %v", err)
		}
		if err := os.Remove(n.path); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Credential.Certificate(); err != nil {
			t.Errorf("a file that is being replaced: %v", err)
		}
		if err := n.restarted().Problem(); !errors.As(err, &p) || p.Reason != condition.ReasonCredentialMissing {
			t.Errorf("%v", err)
		}
	})
}

// TestBorrowed: what the kubelet renews is read again, and never written.
func TestBorrowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.Credential = BorrowCredential(func() ([]byte, []byte, error) {
			raw, err := os.ReadFile(n.path)
			return raw, raw, err
		})
		time.Sleep(364 * 24 * time.Hour)
		if err := n.pass(t.Context()); err != nil || len(n.server.requests) != 0 {
			t.Errorf("%d requests, %v", len(n.server.requests), err)
		}
		n.Credential = nil // a token
		if err := errors.Join(n.pass(t.Context()), n.Problem()); err != nil {
			t.Error(err)
		}
	})
}

// TestRun: nothing is asked for while the link is down; a new node asks for everything at once when it is up, others soon after it came
// back, and then hourly.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		var mu sync.Mutex
		online := false
		n.Online = func() bool { mu.Lock(); defer mu.Unlock(); return online }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { n.Run(ctx); close(done) }()
		asked := func() int { n.server.mu.Lock(); defer n.server.mu.Unlock(); return len(n.server.asked) }
		time.Sleep(3 * time.Hour)
		if got := asked(); got != 0 {
			t.Errorf("%d requests while the link was down", got)
		}
		mu.Lock()
		online = true
		mu.Unlock()
		n.Reconnected()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if got := asked(); got != 3 {
			t.Errorf("%d requests of a new node when the link came up", got)
		}
		n.Reconnected()
		n.Reconnected()
		time.Sleep(settle + time.Second)
		synctest.Wait()
		if got := asked(); got != 6 {
			t.Errorf("%d requests after the link came back", got-3)
		}
		time.Sleep(10 * lookAgain)
		synctest.Wait()
		if got := asked() - 6; got < 3*8 || got > 3*10 {
			t.Errorf("%d requests in ten hours", got)
		}
		n.server.mu.Lock()
		n.server.down, n.server.asked = true, nil
		n.server.mu.Unlock()
		cancel()
		<-done
	})
}

// TestCSRNames: the name follows from the key, so that asking twice is asking once.
func TestCSRNames(t *testing.T) {
	n := newNode(t)
	names := map[string]bool{}
	for range 3 {
		key, err := n.nextKey()
		if err != nil {
			t.Fatal(err)
		}
		_, name, err := n.request(key)
		if err != nil || len(name) > 63 {
			t.Fatal(name, err)
		}
		names[name] = true
	}
	if len(names) != 1 {
		t.Errorf("%v", names)
	}
	if err := os.WriteFile(n.nextFile(), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.nextKey(); err != nil {
		t.Error(fmt.Errorf("a damaged key is made anew: %w", err))
	}
}
