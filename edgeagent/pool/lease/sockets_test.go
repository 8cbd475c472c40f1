package lease_test

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/pool/lease"
)

// TestSockets: three nodes over mutual TLS and HTTP/2 on loopback, with their records on disk. A node that is no member is refused.
func TestSockets(t *testing.T) {
	members := newMembers(t, "a", "b", "c", "stranger")
	conf := lease.Configuration{Generation: 1, Voters: []lease.Voter{{Name: "a", Priority: 2}, {Name: "b", Priority: 1}, {Name: "c"}}}
	var bytes atomic.Int64
	addresses := map[string]string{}
	listeners := map[string]net.Listener{}
	for _, m := range members[:3] {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[m.name], addresses[m.name] = countedListener{l, &bytes}, l.Addr().String()
	}
	holders := make(chan string, 10)
	nodes, stops := map[string]*lease.Node{}, map[string]func(){}
	dir := t.TempDir()
	for _, self := range members[:3] {
		clients := map[string]*http.Client{}
		for _, m := range members[:3] {
			clients[m.name] = client(self, members, m.name)
			t.Cleanup(clients[m.name].CloseIdleConnections)
		}
		node, err := lease.New(lease.Options{Lease: "gateway", Self: self.name, TTL: time.Second, Store: lease.File(filepath.Join(dir, self.name)),
			Transport: lease.HTTP{Client: func(to string) (*http.Client, string, error) {
				return clients[to], "https://" + addresses[to] + "/lease", nil
			}},
			Work: func(ctx context.Context, _ lease.Held) {
				holders <- self.name
				<-ctx.Done()
			}})
		if err != nil {
			t.Fatal(err)
		}
		if err := node.SetConfigurations([]lease.Configuration{conf}); err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: lease.Handler(node, caller(members[:3])), TLSConfig: serverTLS(self)}
		go server.ServeTLS(listeners[self.name], "", "")
		t.Cleanup(func() { server.Close() })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := node.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		nodes[self.name], stops[self.name] = node, func() { cancel(); <-done }
	}
	await := func() string {
		t.Helper()
		select {
		case name := <-holders:
			return name
		case <-time.After(time.Minute):
			t.Fatal("nobody holds after a minute")
			return ""
		}
	}
	first := await()
	held, ok := nodes[first].Held()
	if !ok {
		t.Errorf("%s began to work and does not hold", first)
	}

	foreign := lease.HTTP{Client: func(to string) (*http.Client, string, error) {
		return client(members[3], members, to), "https://" + addresses[to] + "/lease", nil
	}}
	if _, err := foreign.Send(t.Context(), "c", lease.Message{Kind: lease.KindRelease, Token: held.Token}); err == nil {
		t.Error("a node that is no member was heard")
	}

	before, start := bytes.Load(), time.Now()
	for until := held.Until; ; {
		if now, ok := nodes[first].Held(); !ok || now.Token != held.Token || now.Until > until+2*time.Second {
			break // a few renewals later, or, on a machine that hangs, lost
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Logf("idle: %.0f bytes a second over all connections, at 4 rounds of 2 messages in a second", float64(bytes.Load()-before)/time.Since(start).Seconds())

	stops[first]()
	if second := await(); second == first {
		t.Errorf("%s holds again after it was stopped", second)
	}
	for _, name := range []string{"a", "b", "c"} {
		stops[name]()
	}
}
