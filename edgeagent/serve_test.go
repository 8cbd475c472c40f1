package edgeagent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/edgeagent/store"
	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/test/fleetrepo"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

func TestHealthAndMetrics(t *testing.T) {
	n := enrolled(t, "berlin")
	n.must(n.a.Close())
	n.must(identity.Make(filepath.Join(n.state, tlsDir), "n1"))
	a, err := Open(Options{Config: Config{State: n.state, Address: "127.0.0.1:0", ProxyAddress: NoAddress, PodAddress: NoAddress}, Follower: n.f, API: n.api, Now: func() time.Time { return n.clock }})
	n.must(err)
	n.a = a
	t.Cleanup(func() { a.Close() })
	n.run()
	ca, err := os.ReadFile(filepath.Join(n.state, tlsDir, "ca.crt"))
	n.must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	get := func(at time.Time, path string) (int, string) {
		t.Helper()
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, Time: func() time.Time { return at }}}}
		resp, err := client.Get("https://" + a.HealthAddress() + path)
		n.must(err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		n.must(err)
		return resp.StatusCode, string(body)
	}
	if code, body := get(time.Unix(1, 0), "/healthz"); code != 200 || body != "ok\n" {
		t.Fatalf("healthz in 1970: %d %s", code, body)
	}
	if code, body := get(time.Now(), "/readyz"); code != 503 || !strings.Contains(body, "no plan yet") {
		t.Fatalf("readyz: %d %s", code, body)
	}
	id := n.f.push(pool("berlin", "7", "n1"))
	if _, err := (Control{State: n.state}).Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, body := get(time.Date(9990, 1, 1, 0, 0, 0, 0, time.UTC), "/readyz"); code != 200 {
		t.Fatalf("readyz in 9990: %d %s", code, body)
	}
	_, body := get(time.Now(), "/metrics")
	for _, line := range []string{
		`holdfast_agent_info{fleet="kelp",node="n1",pool="berlin",version=""} 1`,
		`holdfast_agent_condition{reason="Accepted",status="True",type="Verified"} 1`,
		`holdfast_agent_verdicts_total{reason="Accepted"} 1`,
		`holdfast_agent_polls_total{reason="Fetched"}`,
		`holdfast_agent_reconciles_total{part="nodepool",reason="Reconciled"} 1`,
		`holdfast_agent_reconcile_seconds_total{part="nodepool"}`,
		`holdfast_agent_fetched_to_applied_seconds`,
		`holdfast_agent_revision_timestamp_seconds`,
		`revision="` + id + `"} 1`,
	} {
		if !strings.Contains(body, line) {
			t.Errorf("no line %q in\n%s", line, body)
		}
	}
	// Nothing is served in plain text.
	resp, err := http.Get("http://" + a.HealthAddress() + "/metrics")
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Fatalf("plain http: %d", resp.StatusCode)
		}
	}
}

func TestControlSocket(t *testing.T) {
	n := enrolled(t, "berlin")
	info, err := os.Stat(socketOf(n))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	stop := n.run()
	s, err := Control{State: n.state}.Status(t.Context())
	if err != nil || !s.Running || s.Node != "n1" || s.Version != "v1.2.3" || s.URL != "https://git.example.com/fleet" {
		t.Fatalf("%+v, %v", s, err)
	}
	stop()
	n.must(n.a.Close())
	if _, err := (Control{State: n.state}).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("got %v", err)
	}
	s, err = ReadStatus(t.Context(), n.state)
	if err != nil || s.Running || s.Node != "n1" || s.Revision != n.f.repo.Anchor() {
		t.Fatalf("%+v, %v", s, err)
	}
	n.must(os.WriteFile(filepath.Join(n.state, "state.db"), []byte("spoiled"), 0o600))
	s, err = ReadStatus(t.Context(), n.state)
	if err != nil || s.Node != "n1" || !strings.Contains(s.Problem, "state.db") {
		t.Fatalf("%+v, %v", s, err)
	}
	n.must(store.Remove(n.state))
	if _, err = ReadStatus(t.Context(), n.state); !errors.Is(err, store.ErrNotEnrolled) {
		t.Fatalf("got %v", err)
	}
}

func TestControlIsForRootAndTheAgentsUser(t *testing.T) {
	for uid, fine := range map[any]bool{uint32(0): true, uint32(os.Geteuid()): true, uint32(12345): false, nil: false} {
		ctx := context.Background()
		if uid != nil {
			ctx = context.WithValue(ctx, peerKey{}, uid)
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if permitted(r) != fine {
			t.Errorf("uid %v: permitted is %v", uid, !fine)
		}
	}
	n := enrolled(t, "berlin")
	n.run()
	c, err := net.Dial("unix", socketOf(n))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if uid, err := peerUID(c.(*net.UnixConn)); err != nil || int(uid) != os.Geteuid() {
		t.Fatalf("peer %d, %v", uid, err)
	}
}

func TestReanchor(t *testing.T) {
	f := fleetrepo.Start(t, gitserver.Config{Plain: true}, fleetrepo.One("berlin", "n1", "rack", "7"))
	state := tempState(t)
	enroll(t, f, state, "n1", "berlin")
	f.Set(fleetrepo.One("berlin", "n1", "rack", "8"))
	a, err := Open(Options{Config: Config{State: state, Address: NoAddress, ProxyAddress: NoAddress, PodAddress: NoAddress}, API: newFakeAPI()})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, a: a, state: state}
	stop := n.run()
	t.Cleanup(func() { a.Close() })
	c := Control{State: state}
	if _, err := c.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.inForce("8")
	// History is rewritten, by another key too.
	root := f.Commit(verifytest.Commit{Parents: []string{f.Anchor()}, Files: fleetrepo.One("berlin", "n1", "rack", "9").File()})
	if _, err := c.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.want(condition.Verified, "False "+verify.NotDescendant)
	for _, wrong := range []string{strings.Repeat("e", 40), "main"} {
		if _, err := c.Reanchor(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Fatalf("re-anchored at %s: %v", wrong, err)
		}
	}
	n.inForce("8")
	s, err := c.Reanchor(t.Context(), root)
	if err != nil || s.Anchor != root || s.Revision != root {
		t.Fatalf("%+v, %v", s, err)
	}
	n.inForce("9")
	n.want(condition.Verified, "True Accepted")
	tip := f.Set(fleetrepo.One("berlin", "n1", "rack", "10"))
	if s, err = c.Sync(t.Context()); err != nil || s.Revision != tip {
		t.Fatalf("%+v, %v", s, err)
	}
	// The same with the agent stopped.
	stop()
	n.must(a.Close())
	root = f.Commit(verifytest.Commit{Parents: []string{f.Anchor()}, Files: fleetrepo.One("berlin", "n1", "rack", "11").File()})
	s, err = ReanchorStopped(t.Context(), Options{Config: Config{State: state}, API: newFakeAPI()}, root)
	if err != nil || s.Anchor != root || s.Revision != root || s.PlanRevision != root {
		t.Fatalf("%+v, %v", s, err)
	}
}

func TestSecondAgentIsRefused(t *testing.T) {
	n := enrolled(t, "berlin")
	if _, err := Open(Options{Config: Config{State: n.state, Address: NoAddress, ProxyAddress: NoAddress, PodAddress: NoAddress}, Follower: n.f, API: n.api}); !errors.Is(err, store.ErrInUse) {
		t.Fatalf("got %v", err)
	}
	long := filepath.Join(n.state, strings.Repeat("x", 100))
	if _, err := listenControl(long); err == nil || !strings.Contains(err.Error(), "shorter") {
		t.Fatalf("got %v", err)
	}
}

// TestHealthConnectionsAreBounded has a user of the node hold as many connections as it may: nobody's further one is
// served until one of them ends.
func TestHealthConnectionsAreBounded(t *testing.T) {
	n := enrolled(t, "berlin")
	n.must(n.a.Close())
	n.must(identity.Make(filepath.Join(n.state, tlsDir), "n1"))
	a, err := Open(Options{Config: Config{State: n.state, Address: "127.0.0.1:0", ProxyAddress: NoAddress, PodAddress: NoAddress}, Follower: n.f, API: n.api, Now: func() time.Time { return n.clock }})
	n.must(err)
	n.a = a
	t.Cleanup(func() { a.Close() })
	n.run()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", a.HealthAddress())
		n.must(err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	held := make([]net.Conn, healthConns)
	for i := range held {
		held[i] = dial()
	}
	further := dial()
	hello := func(patience time.Duration) error {
		n.must(further.SetDeadline(time.Now().Add(patience)))
		return tls.Client(further, &tls.Config{InsecureSkipVerify: true}).Handshake()
	}
	var late net.Error
	if err := hello(200 * time.Millisecond); !errors.As(err, &late) || !late.Timeout() {
		t.Fatalf("one connection too many: %v", err)
	}
	for _, c := range held {
		n.must(c.Close())
	}
	further = dial()
	if err := hello(10 * time.Second); err != nil {
		t.Fatalf("after the others ended: %v", err)
	}
}
