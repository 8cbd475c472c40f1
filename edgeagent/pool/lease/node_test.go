package lease_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/pool/lease"
)

// site is a pool in one process: its members call each other, in the time of a synctest bubble.
type site struct {
	t       *testing.T
	mu      sync.Mutex
	nodes   map[string]*siteNode
	down    map[string]bool
	holder  string
	freed   time.Time
	gap     time.Duration // the last time that nobody held
	token   uint64
	message atomic.Int64
}

type siteNode struct {
	node  *lease.Node
	store *memory
	stop  context.CancelFunc
	done  chan struct{}
}

// memory is a Store that can be full.
type memory struct {
	mu     sync.Mutex
	record *lease.Record
	full   bool
	saves  int
}

func (m *memory) Load() (*lease.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.record, nil
}

var errFull = errors.New("no space left on device")

func (m *memory) Save(r lease.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return errFull
	}
	m.record, m.saves = &r, m.saves+1
	return nil
}

type siteTransport struct {
	s    *site
	from string
}

func (t siteTransport) Send(ctx context.Context, to string, m lease.Message) (*lease.Message, error) {
	t.s.message.Add(1)
	time.Sleep(time.Millisecond)
	t.s.mu.Lock()
	n, down := t.s.nodes[to], t.s.down[to] || t.s.down[t.from]
	t.s.mu.Unlock()
	if n == nil || down {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	decoded, err := lease.Decode(m.Encode())
	if err != nil {
		return nil, err
	}
	answer := n.node.Receive(t.from, decoded)
	time.Sleep(time.Millisecond)
	return answer, nil
}

func newSite(t *testing.T) *site {
	return &site{t: t, nodes: map[string]*siteNode{}, down: map[string]bool{}}
}

// work checks that nobody else is at work, and that tokens rise.
func (s *site) work(name string, stop time.Duration) func(context.Context, lease.Held) {
	return func(ctx context.Context, held lease.Held) {
		s.mu.Lock()
		if s.holder != "" || held.Token <= s.token {
			s.t.Errorf("%s begins with token %d while %q holds with %d", name, held.Token, s.holder, s.token)
		}
		s.holder, s.token, s.gap = name, held.Token, time.Since(s.freed)
		s.mu.Unlock()
		<-ctx.Done()
		time.Sleep(stop)
		s.mu.Lock()
		s.holder, s.freed = "", time.Now()
		s.mu.Unlock()
	}
}

// now gives who holds, the last token, and the last time that nobody held.
func (s *site) now() (holder string, token uint64, gap time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holder, s.token, s.gap
}

func (s *site) lastGap() time.Duration {
	_, _, gap := s.now()
	return gap
}

func (s *site) start(name string, seed uint64, chain ...lease.Configuration) {
	s.t.Helper()
	old := s.nodes[name]
	n := &siteNode{store: &memory{}, done: make(chan struct{})}
	if old != nil {
		n.store = old.store
	}
	start := time.Now().Add(-time.Duration(seed) * time.Hour)
	node, err := lease.New(lease.Options{Lease: "gateway", Self: name, Store: n.store, Transport: siteTransport{s, name}, Work: s.work(name, 100*time.Millisecond),
		Now: func() time.Duration { return time.Since(start) }, Rand: rand.New(rand.NewPCG(seed, uint64(len(chain))))})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := node.SetConfigurations(chain); err != nil {
		s.t.Fatal(err)
	}
	n.node = node
	s.mu.Lock()
	s.nodes[name] = n
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	go func() {
		defer close(n.done)
		if err := node.Run(ctx); err != nil {
			s.t.Error(err)
		}
	}()
}

func (s *site) stop(name string) {
	s.nodes[name].stop()
	<-s.nodes[name].done
}

// awaitHolder waits until a node holds and gives how long that took.
func (s *site) awaitHolder(name string, within time.Duration) time.Duration {
	s.t.Helper()
	start := time.Now()
	for {
		s.mu.Lock()
		holder := s.holder
		s.mu.Unlock()
		if holder == name {
			return time.Since(start)
		}
		if time.Since(start) > within {
			s.t.Fatalf("%q holds after %v, want %q", holder, within, name)
		}
		time.Sleep(time.Millisecond)
	}
}

var three = lease.Configuration{Generation: 1, Voters: []lease.Voter{{Name: "a", Priority: 2}, {Name: "b", Priority: 1}, {Name: "c"}}}

func TestNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		for i, name := range []string{"a", "b", "c"} {
			s.start(name, uint64(i), three)
		}
		t.Logf("a new pool has a holder after %v", s.awaitHolder("a", 10*time.Second))

		saves, messages := s.saves(), s.message.Load()
		time.Sleep(time.Minute)
		if n := s.saves() - saves; n != 0 {
			t.Errorf("%d writes while the holder stayed", n)
		}
		if n := s.message.Load() - messages; n > 130 {
			t.Errorf("%d messages in a minute; a holder of three has 2 a second", n)
		}
		if st := s.nodes["c"].node.Status(); st.Holder != "a" || st.Held || st.Declared != 1 || len(st.Unreachable) != 0 {
			t.Errorf("status of a witness: %+v", st)
		}
		_, token, _ := s.now()
		if st := s.nodes["a"].node.Status(); st.Holder != "a" || !st.Held || st.Token != token {
			t.Errorf("status of the holder: %+v", st)
		}

		// Stopped as an agent is: handed over.
		s.stop("a")
		s.awaitHolder("b", time.Second)
		if s.lastGap() > 10*time.Millisecond {
			t.Errorf("handed over with a gap of %v", s.lastGap())
		}
		t.Logf("handed over with a gap of %v", s.lastGap())

		// The preferred one is back: it takes over when it has been well for a while.
		s.start("a", 3, three)
		t.Logf("the preferred holder is back after %v, gap %v", s.awaitHolder("a", 12*time.Second), s.lastGap())
		if s.lastGap() > 10*time.Millisecond {
			t.Errorf("handed over with a gap of %v", s.lastGap())
		}

		// It cannot do the work: handed over, and back when it can.
		s.nodes["a"].node.SetWilling(false)
		s.awaitHolder("b", 2*time.Second)
		s.nodes["a"].node.SetWilling(true)
		s.awaitHolder("a", 12*time.Second)

		// Cut off: its work ends, and another holds within 5 s.
		s.mu.Lock()
		s.down["a"] = true
		s.mu.Unlock()
		if took := s.awaitHolder("b", 10*time.Second); took > 5*time.Second {
			t.Errorf("a dead holder was replaced after %v", took)
		} else {
			t.Logf("a dead holder was replaced after %v", took)
		}
		time.Sleep(10 * time.Second)
		if st := s.nodes["b"].node.Status(); st.Unreachable["a"] == nil {
			t.Errorf("nothing said of a: %+v", st)
		}
		for _, name := range []string{"a", "b", "c"} {
			s.stop(name)
		}
	})
}

func (s *site) saves() int {
	n := 0
	for _, node := range s.nodes {
		node.store.mu.Lock()
		n += node.store.saves
		node.store.mu.Unlock()
	}
	return n
}

// TestOneNode: a pool of one grants itself, with no message.
func TestOneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.start("a", 1, lease.Configuration{Generation: 1, Voters: []lease.Voter{{Name: "a", Priority: 1}}})
		s.awaitHolder("a", 10*time.Second)
		time.Sleep(time.Minute)
		s.stop("a")
		if s.message.Load() != 0 {
			t.Errorf("%d messages", s.message.Load())
		}
		s.start("a", 2, lease.Configuration{Generation: 1, Voters: []lease.Voter{{Name: "a", Priority: 1}}})
		if took := s.awaitHolder("a", 10*time.Second); took > time.Second {
			t.Errorf("after a restart it took %v to hold again", took)
		}
		s.stop("a")
	})
}

// TestFullDisks: a majority whose disks are full lets the holder go on, and grants nobody anything new.
func TestFullDisks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		for i, name := range []string{"a", "b", "c"} {
			s.start(name, uint64(i), three)
		}
		s.awaitHolder("a", 10*time.Second)
		full := func(full bool) {
			for _, name := range []string{"b", "c"} {
				s.nodes[name].store.mu.Lock()
				s.nodes[name].store.full = full
				s.nodes[name].store.mu.Unlock()
			}
		}
		full(true)
		_, token, _ := s.now()
		time.Sleep(time.Minute)
		if holder, now, _ := s.now(); holder != "a" || now != token {
			t.Errorf("%q holds with %d, want a with %d", holder, now, token)
		}
		s.stop("a")
		time.Sleep(time.Minute)
		if holder, _, _ := s.now(); holder != "" {
			t.Errorf("%q holds", holder)
		}
		if st := s.nodes["b"].node.Status(); !errors.Is(st.Store, errFull) {
			t.Errorf("status: %+v", st)
		}
		full(false)
		s.awaitHolder("b", 20*time.Second)
		s.stop("b")
		s.stop("c")
	})
}

// TestMembersChange: a is replaced by d, which is to be preferred, while a holds. Plans arrive one after the other.
func TestMembersChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		for i, name := range []string{"a", "b", "c"} {
			s.start(name, uint64(i), three)
		}
		s.awaitHolder("a", 10*time.Second)
		next := lease.Configuration{Generation: 2, Voters: []lease.Voter{{Name: "b", Priority: 1}, {Name: "c"}, {Name: "d", Priority: 2}}}
		s.start("d", 9, three, next)
		for _, name := range []string{"a", "c", "b"} {
			time.Sleep(30 * time.Second)
			if holder, _, _ := s.now(); holder == "" {
				t.Error("nobody holds while the plan is on its way")
			}
			if err := s.nodes[name].node.SetConfigurations([]lease.Configuration{three, next}); err != nil {
				t.Fatal(err)
			}
			if holder, _, gap := s.now(); holder != "a" && gap > 10*time.Millisecond {
				t.Errorf("nobody held for %v", gap)
			}
		}
		s.awaitHolder("d", 30*time.Second)
		time.Sleep(10 * time.Second)
		if st := s.nodes["d"].node.Status(); len(st.InUse) != 1 || st.InUse[0] != 2 {
			t.Errorf("in use: %v", st.InUse)
		}
		if peers := s.nodes["d"].node.Peers(); len(peers) != 2 {
			t.Errorf("still asks %v", peers)
		}
		if err := s.nodes["d"].node.SetConfigurations([]lease.Configuration{{Generation: 2, Voters: three.Voters}}); err == nil {
			t.Error("another configuration of the same generation was taken")
		}
		for _, name := range []string{"a", "b", "c", "d"} {
			s.stop(name)
		}
	})
}
