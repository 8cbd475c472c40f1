package upstream_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream/upstreamtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const nodeName = "system:node:n1"

// echo answers with who asked, or with an endless stream for /watch.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/watch"):
		w.WriteHeader(http.StatusOK)
		fmt.Fprintln(w, "first")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	case r.URL.Path == "/silent":
		<-r.Context().Done()
	default:
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, upstreamtest.User(r), body)
	}
})

type fixture struct {
	*upstream.Link
	apis []*upstreamtest.API
	ca   *upstreamtest.Authority

	mu     sync.Mutex
	states []upstream.State
}

// start gives a running link to n servers. change may alter its configuration, and the servers, before it runs. It has more patience
// than the defaults, which machines that are busy with other things exhaust; how fast the link is with those the benchmarks say.
func start(t *testing.T, n int, change func(*upstream.Config, *fixture)) *fixture {
	t.Helper()
	f := &fixture{ca: upstreamtest.NewAuthority(t)}
	cert := f.ca.Issue(nodeName, "system:nodes")
	cfg := upstream.Config{CA: f.ca.Pool, Certificate: func() (*tls.Certificate, error) { return cert, nil }, UserAgent: "test"}
	cfg.Race, cfg.Idle, cfg.Timeout = 10*time.Second, time.Second, 5*time.Second
	for range n {
		api := upstreamtest.NewAPI(t, f.ca, echo)
		f.apis = append(f.apis, api)
		cfg.Servers = append(cfg.Servers, api.URL())
	}
	if change != nil {
		change(&cfg, f)
	}
	var err error
	if f.Link, err = upstream.New(cfg); err != nil {
		t.Fatal(err)
	}
	f.Subscribe(func(s upstream.State) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.states = append(f.states, s)
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return f
}

// within waits for a state and gives how long that took.
func (f *fixture) within(t *testing.T, d time.Duration, want upstream.State) time.Duration {
	t.Helper()
	began := time.Now()
	for f.State() != want {
		if time.Since(began) > d {
			t.Fatalf("state is %v after %v, want %v: %s", f.State(), d, want, f.Status().Why)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}

func (f *fixture) get(t *testing.T, path string, node bool) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	if !node {
		req.Header.Set("Authorization", "Bearer pod")
	}
	resp, err := f.RoundTrip(req, node)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// slack on top of the configured times is for a machine that does other things too.
const slack = 20 * time.Second

func TestWho(t *testing.T) {
	f := start(t, 1, nil)
	if got, err := f.get(t, "/x", true); err != nil || got != "GET "+nodeName+" " {
		t.Errorf("as the node: got %q, %v", got, err)
	}
	if got, err := f.get(t, "/x", false); err != nil || got != "GET Bearer pod " {
		t.Errorf("as a pod: got %q, %v", got, err)
	}
	if f.State() != upstream.Online {
		t.Errorf("state is %v", f.State())
	}
}

func TestToken(t *testing.T) {
	f := start(t, 1, func(c *upstream.Config, _ *fixture) {
		c.Certificate, c.Token = nil, func() (string, error) { return "node", nil }
	})
	if got, err := f.get(t, "/x", true); err != nil || got != "GET Bearer node " {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestManyStreams(t *testing.T) {
	f := start(t, 1, nil)
	const streams = 5*upstreamtest.Streams + 1
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("/watch/%d", i), nil)
			resp, err := f.RoundTrip(req, true)
			if err != nil {
				t.Errorf("watch %d: %v", i, err)
				return
			}
			t.Cleanup(func() { resp.Body.Close() })
			buf := make([]byte, 6)
			if _, err := io.ReadFull(resp.Body, buf); err != nil {
				t.Errorf("watch %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if got, err := f.get(t, "/x", true); err != nil || !strings.HasPrefix(got, "GET ") {
		t.Errorf("a GET beside %d watches: %q, %v", streams, got, err)
	}
	if n := f.apis[0].Conns.Load(); n > streams/upstreamtest.Streams+3 {
		t.Errorf("%d connections for %d streams", n, streams)
	}
}

func TestBlackHole(t *testing.T) {
	t.Parallel()
	f := start(t, 1, nil)
	f.within(t, slack, upstream.Online)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/watch", nil)
	resp, err := f.RoundTrip(req, true)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	waiting := make(chan error, 1)
	go func() {
		_, err := f.get(t, "/silent", true)
		waiting <- err
	}()
	f.apis[0].Cut()
	t.Logf("noticed after %v: %s", f.within(t, slack, upstream.Offline), f.Status().Why)
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("a watch over the dead link ended as if it were complete")
	}
	if err := <-waiting; !errors.Is(err, upstream.ErrLost) {
		t.Errorf("a request under way: %v, want ErrLost", err)
	}
	if _, err := f.get(t, "/x", true); !errors.Is(err, upstream.ErrOffline) || errors.Is(err, upstream.ErrLost) {
		t.Errorf("a request on the dead link: %v, want ErrOffline", err)
	}
	f.apis[0].Restore()
	t.Logf("back after %v", f.within(t, slack, upstream.Online))
	if _, err := f.get(t, "/x", true); err != nil {
		t.Error(err)
	}
}

// TestBlackHoleWhileBusy: a request on a connection for many GETs learns of a dead link as early as any other.
func TestBlackHoleWhileBusy(t *testing.T) {
	t.Parallel()
	f := start(t, 1, func(c *upstream.Config, _ *fixture) { c.Idle, c.Timeout = 500*time.Millisecond, time.Second })
	f.within(t, slack, upstream.Online)
	for range 100 { // now there are such connections
		if _, err := f.get(t, "/x", true); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	waiting := make(chan error, 1)
	go func() {
		_, err := f.get(t, "/silent", true)
		waiting <- err
	}()
	f.apis[0].Cut()
	if err := <-waiting; !errors.Is(err, upstream.ErrLost) && !errors.Is(err, upstream.ErrOffline) {
		t.Errorf("got %v, want ErrLost or ErrOffline", err)
	}
	if took := time.Since(began); took > 8*time.Second { // to connect anew would take ten
		t.Errorf("it took %v", took)
	}
}

// TestLostServerIsTriedAgain: the server that fell silent is the one that comes back, while the others stay away.
func TestLostServerIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := start(t, 2, func(_ *upstream.Config, f *fixture) { f.apis[1].Refuse() })
	f.within(t, slack, upstream.Online)
	f.apis[0].Cut()
	f.within(t, slack, upstream.Offline)
	f.apis[0].Restore()
	f.within(t, slack, upstream.Online)
}

func TestRefused(t *testing.T) {
	t.Parallel()
	f := start(t, 2, nil)
	f.within(t, slack, upstream.Online)
	for _, api := range f.apis {
		api.Refuse()
	}
	f.within(t, slack, upstream.Offline)
	f.apis[1].Restore()
	f.within(t, slack, upstream.Online)
	if got := f.Status().Server; got != f.apis[1].URL() {
		t.Errorf("server is %s, want the one that is back, %s", got, f.apis[1].URL())
	}
}

func TestStartRefused(t *testing.T) {
	f := start(t, 2, func(_ *upstream.Config, f *fixture) {
		for _, api := range f.apis {
			api.Refuse()
		}
	})
	f.within(t, slack, upstream.Offline)
	if why := f.Status().Why; !strings.Contains(why, f.apis[0].URL()) || !strings.Contains(why, "refused") {
		t.Errorf("why is %q", why)
	}
}

func TestStartBlackHole(t *testing.T) {
	t.Parallel()
	f := start(t, 1, func(c *upstream.Config, f *fixture) {
		c.Race = time.Second
		f.apis[0].Cut()
	})
	began := time.Now()
	if _, err := f.get(t, "/x", true); !errors.Is(err, upstream.ErrOffline) {
		t.Errorf("got %v, want ErrOffline", err)
	}
	if took := time.Since(began); took < 900*time.Millisecond || took > time.Second+slack {
		t.Errorf("a request waited %v, want the race's 1 s", took)
	}
	f.apis[0].Restore()
	f.within(t, slack, upstream.Online)
}

// TestReset: a server that hangs up, and is there at once again, is not a link that is down.
func TestReset(t *testing.T) {
	t.Parallel()
	f := start(t, 1, nil)
	f.within(t, slack, upstream.Online)
	for range 5 {
		f.apis[0].Reset()
		if _, err := f.get(t, "/x", true); err != nil {
			t.Errorf("a GET after a reset: %v", err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.states {
		if s == upstream.Offline {
			t.Errorf("the link was called offline: %v", f.states)
		}
	}
}

// TestResetMidway: a GET whose connection breaks before the answer is sent again, a POST is not.
func TestResetMidway(t *testing.T) {
	t.Parallel()
	f := start(t, 1, nil)
	f.within(t, slack, upstream.Online)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	errs := make(chan error, 1)
	go func() {
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "/silent", strings.NewReader("x"))
		_, err := f.RoundTrip(req, true)
		errs <- err
	}()
	for len(errs) == 0 && ctx.Err() == nil {
		f.apis[0].Reset()
		time.Sleep(20 * time.Millisecond)
	}
	if err := <-errs; err == nil || ctx.Err() != nil {
		t.Errorf("the POST: %v", err)
	}
}

func TestFailover(t *testing.T) {
	for _, fault := range []struct {
		name string
		do   func(*upstreamtest.API)
	}{
		{"black hole", (*upstreamtest.API).Cut},
		{"refused", (*upstreamtest.API).Refuse},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			f := start(t, 3, nil)
			f.within(t, slack, upstream.Online)
			first := f.Status().Server
			for _, api := range f.apis {
				if api.URL() == first {
					fault.do(api)
				}
			}
			began := time.Now()
			for f.Status().Server == first || f.State() != upstream.Online {
				if time.Since(began) > slack {
					t.Fatalf("still at %v, %v after %v", f.Status().Server, f.State(), slack)
				}
				time.Sleep(time.Millisecond)
			}
			t.Logf("failed over after %v", time.Since(began))
			if _, err := f.get(t, "/x", true); err != nil {
				t.Error(err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, s := range f.states {
				if s == upstream.Offline {
					t.Errorf("the link was called offline although two servers were well: %v", f.states)
				}
			}
		})
	}
}

func TestServersReplaced(t *testing.T) {
	f := start(t, 2, func(c *upstream.Config, _ *fixture) { c.Servers = c.Servers[:1] })
	f.within(t, slack, upstream.Online)
	if err := f.SetServers([]string{f.apis[1].URL()}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for f.Status().Server != f.apis[1].URL() || f.State() != upstream.Online {
		if time.Since(began) > slack {
			t.Fatalf("at %s, %v", f.Status().Server, f.State())
		}
		time.Sleep(time.Millisecond)
	}
	if err := f.SetServers([]string{"http://plain"}); err == nil {
		t.Error("a server without TLS was taken")
	}
}

// TestNotAccepted: a server that answers 401 to the node is no server for it.
func TestNotAccepted(t *testing.T) {
	f := start(t, 0, func(c *upstream.Config, f *fixture) {
		other := upstreamtest.NewAuthority(t)
		api := upstreamtest.NewAPI(t, other, echo)
		f.apis = append(f.apis, api)
		c.Servers = []string{api.URL()}
	})
	f.within(t, slack, upstream.Offline)
	if why := f.Status().Why; !strings.Contains(why, "certificate") {
		t.Errorf("why is %q", why)
	}
}

func TestUpgrade(t *testing.T) {
	ca := upstreamtest.NewAuthority(t)
	api := upstreamtest.NewAPI(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || r.Header.Get("Upgrade") == "refuse" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, rw)
	}))
	f := start(t, 0, func(c *upstream.Config, _ *fixture) {
		cert := ca.Issue(nodeName)
		c.Servers, c.CA = []string{api.URL()}, ca.Pool
		c.Certificate = func() (*tls.Certificate, error) { return cert, nil }
	})
	f.within(t, slack, upstream.Online)
	for protocol, want := range map[string]int{"echo": http.StatusSwitchingProtocols, "refuse": http.StatusForbidden} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/exec", nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", protocol)
		resp, err := f.Upgrade(req, true)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != want {
			t.Errorf("%s: %s", protocol, resp.Status)
		}
		if rw, ok := resp.Body.(io.ReadWriteCloser); ok {
			io.WriteString(rw, "ping")
			buf := make([]byte, 4)
			if _, err := io.ReadFull(rw, buf); err != nil || string(buf) != "ping" {
				t.Errorf("echoed %q, %v", buf, err)
			}
		}
		resp.Body.Close()
	}
}

// TestBusy: many GETs go over connections of their own, which end when it is quiet again, and with the link.
func TestBusy(t *testing.T) {
	var mu sync.Mutex
	versions := map[string]int{}
	ca := upstreamtest.NewAuthority(t)
	api := upstreamtest.NewAPI(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		versions[r.Proto]++
		mu.Unlock()
		if r.URL.Path == "/long" {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
		echo(w, r)
	}))
	f := start(t, 0, func(c *upstream.Config, _ *fixture) {
		cert := ca.Issue(nodeName)
		c.Servers, c.CA = []string{api.URL()}, ca.Pool
		c.Certificate = func() (*tls.Certificate, error) { return cert, nil }
	})
	f.within(t, slack, upstream.Online)
	quick := func() int {
		mu.Lock()
		defer mu.Unlock()
		return versions["HTTP/1.1"]
	}
	for deadline := time.Now().Add(10 * time.Second); quick() < 100; {
		for _, node := range []bool{true, false} {
			want := "GET " + nodeName + " "
			if !node {
				want = "GET Bearer pod "
			}
			if got, err := f.get(t, "/x", node); err != nil || got != want {
				t.Fatalf("got %q, %v, want %q", got, err, want)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("requests by protocol: %v", versions)
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/long", nil)
	resp, err := f.RoundTrip(req, true)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	api.Reset() // those that are idle are found dead by the next request
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("an answer that broke off looks complete")
	}
	for range 20 {
		if _, err := f.get(t, "/x", true); err != nil {
			t.Fatalf("after a reset: %v", err)
		}
	}
}
