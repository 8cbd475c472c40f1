package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

func good(w http.ResponseWriter, r *http.Request) { sendManifest(w, r, manifestOf(nil)) }

// took runs f and gives how long it took, by the clock that the bubble has.
func took(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// TestBlackHole is the promise: a miss within a second when packets are swallowed, at once from then on, and the registry back by itself.
func TestBlackHole(t *testing.T) {
	n := newNetwork(t)
	synctest.Test(t, func(t *testing.T) {
		r := n.start(t, Config{}, good)
		n.set(true, nil)
		if d := took(func() { wantKind(t, getManifest(r), Unavailable) }); d > time.Second {
			t.Errorf("the first miss took %v, want at most a second", d)
		}
		dials := n.dialed()
		for range 100 {
			if d := took(func() { wantKind(t, getManifest(r), Unavailable) }); d > 0 {
				t.Fatalf("a miss took %v while the breaker was open", d)
			}
		}
		if n.dialed() != dials {
			t.Errorf("%d connections were tried while the breaker was open", n.dialed()-dials)
		}
		// For an hour someone asks each second: attempts become rare, and are never more than one at a time.
		dials = n.dialed()
		for range 3600 {
			time.Sleep(time.Second)
			if d := took(func() { wantKind(t, getManifest(r), Unavailable) }); d > time.Second {
				t.Fatalf("a miss took %v", d)
			}
		}
		if got := n.dialed() - dials; got < 3600/32 || got > 3600/15+10 {
			t.Errorf("%d attempts in an hour, want one in 15 to 30 s", got)
		}
		n.set(false, nil)
		time.Sleep(30 * time.Second)
		if err := getManifest(r); err != nil {
			t.Errorf("the network is back for 30 s: %v", err)
		}
	})
}

// TestOneTries: while the breaker is open and its pause is over, one request waits and the others do not.
func TestOneTries(t *testing.T) {
	n := newNetwork(t)
	synctest.Test(t, func(t *testing.T) {
		r := n.start(t, Config{}, good)
		n.set(true, nil)
		wantKind(t, getManifest(r), Unavailable)
		time.Sleep(2 * time.Second)
		dials := n.dialed()
		var mu sync.Mutex
		waited := 0
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				var err error
				d := took(func() { err = getManifest(r) })
				if !errors.Is(err, Unavailable) {
					t.Errorf("got %v", err)
				}
				if d > 0 {
					mu.Lock()
					waited++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if waited != 1 || n.dialed()-dials != 1 {
			t.Errorf("%d of 50 requests waited, %d connections were tried; want 1 and 1", waited, n.dialed()-dials)
		}
		// One that tries and is called off leaves the next to try.
		time.Sleep(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := r.Manifest(ctx, "team/app", "v1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		n.set(false, nil)
		if err := getManifest(r); err != nil {
			t.Error(err)
		}
	})
}

func TestRefusedConnections(t *testing.T) {
	n := newNetwork(t)
	synctest.Test(t, func(t *testing.T) {
		r := n.start(t, Config{}, good)
		for _, why := range []error{syscall.ECONNREFUSED, syscall.ENETUNREACH, errors.New("lookup example.com: no such host")} {
			n.set(false, why)
			r.Retry()
			if d := took(func() { wantKind(t, getManifest(r), Unavailable) }); d > 0 {
				t.Errorf("%v: known after %v", why, d)
			}
			if err := getManifest(r); !errors.Is(err, why) {
				t.Errorf("while the breaker is open the error is %v, without the reason %v", err, why)
			}
		}
		// The agent hears that the network is back before the pause is over.
		n.set(false, nil)
		wantKind(t, getManifest(r), Unavailable)
		if r.Retry(); getManifest(r) != nil {
			t.Error("still turned away after Retry")
		}
	})
}

// TestLongWay: where connecting alone takes longer than a request waits, the connection that comes too late serves the next.
func TestLongWay(t *testing.T) {
	n := newNetwork(t)
	synctest.Test(t, func(t *testing.T) {
		r := n.start(t, Config{}, good)
		n.delay = 3 * time.Second
		wantKind(t, getManifest(r), Unavailable) // until 0.9 s; the next may try after 1.9 s at most
		time.Sleep(1050 * time.Millisecond)
		wantKind(t, getManifest(r), Unavailable) // until 2.85 s; the next may try after 3.85 s at least
		time.Sleep(200 * time.Millisecond)
		if d := took(func() {
			if err := getManifest(r); err != nil {
				t.Errorf("the first connection is there, and: %v", err)
			}
		}); d > 0 {
			t.Errorf("it took %v", d)
		}
	})
}

// TestSlowButConnected: a registry that takes its time is waited for, as long as it is alive.
func TestSlowButConnected(t *testing.T) {
	n := newNetwork(t)
	digest := oci.SHA256.FromBytes(nil)
	synctest.Test(t, func(t *testing.T) {
		r := n.start(t, Config{}, func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				time.Sleep(29 * time.Second)
				w.Write([]byte("x"))
				w.(http.Flusher).Flush()
			}
		})
		var got []byte
		var err error
		d := took(func() { got, err = readBlob(r, digest, 100, 0) })
		if err != nil || len(got) != 100 || d < 2900*time.Second {
			t.Errorf("%d bytes after %v, %v; want all after 48 minutes", len(got), d, err)
		}
	})
}

// TestReaderMayBeSlow: silence is counted only while something is waited for.
func TestReaderMayBeSlow(t *testing.T) {
	n := newNetwork(t)
	blob := make([]byte, 1<<20)
	synctest.Test(t, func(t *testing.T) {
		r := n.start(t, Config{}, func(w http.ResponseWriter, _ *http.Request) { w.Write(blob) })
		b, err := r.Blob(t.Context(), "team/app", oci.SHA256.FromBytes(blob), int64(len(blob)), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Body.Close()
		buffer, total := make([]byte, 256<<10), 0
		for err == nil {
			var k int
			k, err = b.Body.Read(buffer)
			total += k
			time.Sleep(time.Hour)
		}
		if err != io.EOF || total != len(blob) {
			t.Errorf("%d bytes, %v", total, err)
		}
	})
}

// TestKeptConnectionIntoBlackHole: one made before the network went away does not make a miss slower.
func TestKeptConnectionIntoBlackHole(t *testing.T) {
	n := newNetwork(t)
	synctest.Test(t, func(t *testing.T) {
		r := n.start(t, Config{}, good)
		if err := getManifest(r); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		n.set(true, nil)
		if d := took(func() { wantKind(t, getManifest(r), Unavailable) }); d > time.Second {
			t.Errorf("the miss took %v, want at most a second", d)
		}
		if d := took(func() { wantKind(t, getManifest(r), Unavailable) }); d > 0 {
			t.Errorf("the second miss took %v", d)
		}
	})
}

// TestKeptConnectionToSlowRegistry: the look whether the network is there does no harm, whatever it finds but silence.
func TestKeptConnectionToSlowRegistry(t *testing.T) {
	n := newNetwork(t)
	synctest.Test(t, func(t *testing.T) {
		slow := time.Duration(0)
		r := n.start(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(slow)
			good(w, r)
		})
		for _, refuse := range []error{nil, syscall.ECONNREFUSED} {
			slow = 0
			n.set(false, nil)
			if err := getManifest(r); err != nil {
				t.Fatal(err)
			}
			slow = 20 * time.Second
			n.set(false, refuse)
			if err := getManifest(r); err != nil {
				t.Errorf("looking gave %v, and then: %v", refuse, err)
			}
		}
	})
}

// TestTokenServerAway: the breaker is each host's own.
func TestTokenServerAway(t *testing.T) {
	away := httptest.NewTLSServer(nil)
	away.Close()
	reg, _ := private(t, func() string { return away.URL }, "ann")
	r := client(t, reg, Config{Hosts: []string{host(away)}})
	wantKind(t, getManifest(r), Unavailable)
	if b := r.breaker(host(reg)); b.failed != 0 {
		t.Error("the registry's own breaker is open")
	}
	if b := r.breaker(host(away)); b.failed == 0 {
		t.Error("the token server's breaker is closed")
	}
	for i := range 2 * maxBreakers {
		r.breaker(fmt.Sprintf("cdn%d.example:443", i))
	}
	if len(r.breakers) > maxBreakers || r.breakers[host(away)] == nil {
		t.Errorf("%d breakers are kept, the declared host's among them: %v", len(r.breakers), r.breakers[host(away)] != nil)
	}
}

func TestUntrustedCertificate(t *testing.T) {
	reg, requests := serve(t, good)
	r := client(t, reg, Config{})
	r.own.TLSClientConfig.RootCAs = nil
	wantKind(t, getManifest(r), Unavailable)
	if len(requests.all()) > 0 {
		t.Error("a server that nobody knows was asked")
	}
}

// TestProxy: everything goes through an HTTP proxy, and it does not become a way around the rules.
func TestProxy(t *testing.T) {
	store, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("blob")) })
	reg, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, store.URL, http.StatusFound) })
	proxy, tunnels := httptest.NewServer(nil), &seen{}
	t.Cleanup(proxy.Close)
	proxy.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tunnels.add(r)
		there, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer there.Close()
		here, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer here.Close()
		fmt.Fprint(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			io.Copy(there, buffered)
			there.Close()
		}()
		io.Copy(here, there)
	})
	through, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Proxy: func(*url.URL) (*url.URL, error) { return through, nil }}
	blob := oci.SHA256.FromBytes([]byte("blob"))
	r := client(t, reg, cfg)
	_, err = readBlob(r, blob, 4, 0)
	wantKind(t, err, Refused)
	if n := len(tunnels.all()); n != 1 {
		t.Errorf("%d tunnels, want the registry's alone", n)
	}
	cfg.Hosts = []string{host(store)}
	r = client(t, reg, cfg)
	r.cfg.CA.AddCert(store.Certificate())
	if got, err := readBlob(r, blob, 4, 0); err != nil || string(got) != "blob" {
		t.Errorf("got %q, %v", got, err)
	}
	if n := len(tunnels.all()); n != 3 {
		t.Errorf("%d tunnels, want 3", n)
	}
	// A proxy that is there says nothing about what is behind it.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	through = &url.URL{Scheme: "http", Host: silent.Addr().String()}
	cfg.Connect = 100 * time.Millisecond
	r = client(t, reg, cfg)
	if d := took(func() { wantKind(t, getManifest(r), Unavailable) }); d > 10*time.Second {
		t.Errorf("the miss took %v: it was waited for as for a connected registry", d)
	}
}
