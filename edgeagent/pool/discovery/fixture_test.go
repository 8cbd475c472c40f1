package discovery

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
)

// lan is a LAN in memory: what one node sends all others hear.
type lan struct {
	mu    sync.Mutex
	wires []*fakeWire
	sent  [][]byte
	lose  func(from, to *fakeWire) bool
}

func (l *lan) setLoss(lose func(from, to *fakeWire) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose = lose
}

type fakeWire struct {
	lan     *lan
	index   int
	address string
	err     error
	packets chan Packet
	changes chan struct{}
	sent    int
}

func (l *lan) wire(index int, address string) *fakeWire {
	w := &fakeWire{lan: l, index: index, address: address, packets: make(chan Packet, 1000), changes: make(chan struct{}, 1)}
	l.wires = append(l.wires, w)
	return w
}

func (w *fakeWire) Links() ([]Link, error) {
	w.lan.mu.Lock()
	defer w.lan.mu.Unlock()
	if w.address == "" || w.err != nil {
		return nil, w.err
	}
	return []Link{{Index: w.index, Name: fmt.Sprintf("eth%d", w.index), Prefixes: []netip.Prefix{netip.MustParsePrefix(w.address + "/24")}}}, nil
}

func (w *fakeWire) Send(_ Link, data []byte) error {
	w.lan.mu.Lock()
	defer w.lan.mu.Unlock()
	w.sent++
	w.lan.sent = append(w.lan.sent, data)
	for _, other := range w.lan.wires {
		if other != w && other.address != "" && (w.lan.lose == nil || !w.lan.lose(w, other)) {
			other.packets <- Packet{Link: other.index, Data: data}
		}
	}
	return nil
}

func (w *fakeWire) Packets() <-chan Packet   { return w.packets }
func (w *fakeWire) Changes() <-chan struct{} { return w.changes }

// setAddress gives the node another address.
func (w *fakeWire) setAddress(address string) {
	w.lan.mu.Lock()
	w.address = address
	w.lan.mu.Unlock()
	w.changes <- struct{}{}
}

func (w *fakeWire) fail(err error) {
	w.lan.mu.Lock()
	defer w.lan.mu.Unlock()
	w.err = err
}

func (w *fakeWire) count() int {
	w.lan.mu.Lock()
	defer w.lan.mu.Unlock()
	return w.sent
}

// peer is a node on the LAN.
type peer struct {
	*Discovery
	wire  *fakeWire
	key   *identity.Key
	heard map[string]int
	stop  context.CancelFunc
}

// site is a LAN with the nodes of a pool.
type site struct {
	t     *testing.T
	lan   lan
	peers map[string]*peer
	names map[identity.Fingerprint]string
	log   bytes.Buffer
	mu    sync.Mutex
}

// newSite starts nodes. It is for a synctest bubble.
func newSite(t *testing.T, names ...string) *site {
	s := &site{t: t, peers: map[string]*peer{}, names: map[identity.Fingerprint]string{}}
	keys := map[string]*identity.Key{}
	for _, name := range names {
		keys[name] = newKey(t, name)
		s.names[keys[name].Fingerprint()] = name
	}
	for i, name := range names {
		s.start(name, keys[name], s.lan.wire(i+1, fmt.Sprintf("10.0.0.%d", i+1)))
	}
	return s
}

func (s *site) start(name string, key *identity.Key, wire *fakeWire) *peer {
	ctx, cancel := context.WithCancel(s.t.Context())
	p := &peer{wire: wire, key: key, heard: map[string]int{}, stop: cancel}
	log := slog.New(slog.NewTextHandler(&s.log, nil))
	book := OpenBook("", log)
	nodes := map[string][]string{}
	for _, other := range s.names {
		nodes[other] = nil
	}
	book.SetNodes(nodes)
	p.Discovery = New(Config{
		Node: name, Key: func() *identity.Key { return key }, Port: 7440, Book: book, Wire: wire, Log: log,
		Member: func(f identity.Fingerprint) string {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.names[f]
		},
		Heard: func(node string, _ bool) { p.heard[node]++ },
	})
	s.peers[name] = p
	go p.Run(ctx)
	s.t.Cleanup(cancel)
	return p
}

// finds checks where a node would look for another.
func (s *site) finds(name, other string, want ...string) {
	s.t.Helper()
	synctest.Wait()
	if got := s.peers[name].cfg.Book.Candidates(other); !slices.Equal(got, want) {
		s.t.Errorf("%s looks for %s at %v, want %v", name, other, got, want)
	}
}

func pass(d time.Duration) {
	time.Sleep(d) // in a bubble: no time passes outside
	synctest.Wait()
}
