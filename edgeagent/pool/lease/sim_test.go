package lease

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// What the simulation's nodes agree on. The clocks run between 0.9 and 1.1: just within the drift.
const (
	simTTL   = 4 * time.Second
	simStop  = 400 * time.Millisecond
	simDrift = 0.2
	simRate  = 0.1
)

type simEvent struct {
	at  time.Duration
	seq int
	do  func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any     { x := (*q)[len(*q)-1]; *q = (*q)[:len(*q)-1]; return x }

// simNode is a node with its disk, its clock and the owner of the lease on it.
type simNode struct {
	s         *sim
	name      string
	core      *Core // nil while it is down
	life      int
	record    *Record
	plan      int  // how many of the configurations it knows
	dead      bool // for good, and the next configuration says so
	unwilling bool // what it was told last

	rate          float64
	clockAt       time.Duration // real time at which local was true
	local         time.Duration
	pausedUntil   time.Duration
	tickAt        time.Duration
	working       bool
	stopScheduled bool
	paused        bool // in this lease
	token         uint64
	until         time.Duration // local
	saves         int
}

// sim is one run: real time, a network, and what is done to them.
type sim struct {
	rand   *rand.Rand
	now    time.Duration
	queue  simQueue
	seq    int
	nodes  map[string]*simNode
	names  []string
	confs  []Configuration // as the fleet repo has them; a plan is how many of them
	cut    map[[2]string]bool
	faults bool
	loss   float64
	dup    float64
	slow   float64 // part of the messages that take up to two TTLs

	lose      bool // disks may be lost
	lastToken uint64
	holds     int
	sent      int
	failure   string
	trace     []string
	verbose   bool
}

func (s *sim) logf(format string, args ...any) {
	if s.verbose {
		s.trace = append(s.trace, fmt.Sprintf("%12v ", s.now)+fmt.Sprintf(format, args...))
	}
}

func (s *sim) fail(format string, args ...any) {
	if s.failure == "" {
		s.failure = fmt.Sprintf("at %v: ", s.now) + fmt.Sprintf(format, args...)
		s.logf("FAIL %s", s.failure)
	}
}

func (s *sim) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{s.now + max(d, 0), s.seq, do})
}

func (s *sim) upTo(d time.Duration) time.Duration { return time.Duration(s.rand.Int64N(int64(d) + 1)) }

func (s *sim) chance(p float64) bool { return s.rand.Float64() < p }

// run goes on until a time.
func (s *sim) run(until time.Duration) {
	for len(s.queue) > 0 && s.queue[0].at <= until && s.failure == "" {
		e := heap.Pop(&s.queue).(simEvent)
		s.now = e.at
		e.do()
	}
	s.now = until
}

// clock is the node's own time. It begins anew at each start of the node.
func (n *simNode) clock() time.Duration {
	return n.local + time.Duration(float64(n.s.now-n.clockAt)*n.rate)
}

// rate is how fast a clock runs: often as fast or slow as it may.
func (s *sim) rate() float64 {
	return 1 + simRate*[]float64{-1, 0, 1, 2*s.rand.Float64() - 1}[s.rand.IntN(4)]
}

func (n *simNode) setRate(rate float64) {
	n.local, n.clockAt, n.rate, n.tickAt = n.clock(), n.s.now, rate, 0
	n.observe() // its timer goes by its clock
}

// step runs something on a node that is up, now or when its pause is over, and does what comes of it.
func (n *simNode) step(what func(now time.Duration)) {
	life := n.life
	if n.core == nil {
		return
	}
	if n.s.now < n.pausedUntil {
		n.paused = true
		n.s.after(n.pausedUntil-n.s.now, func() {
			if n.life == life {
				n.step(what)
			}
		})
		return
	}
	what(n.clock())
	n.drain()
	n.observe()
}

// drain is the driver: what must be on disk first, then what is said. A node may crash, and a disk may fail, in between.
func (n *simNode) drain() {
	for n.core != nil {
		record, out := n.core.Take()
		if record == nil {
			for _, e := range out {
				n.s.send(n.name, e.To, e.Message)
			}
			return
		}
		switch n.s.faults && n.s.chance(0.02) {
		case true:
			if n.s.chance(0.5) {
				n.core.Unsaved()
				return
			}
			if n.s.chance(0.5) {
				n.record = record
			}
			n.crash(n.s.upTo(3 * simTTL))
		default:
			n.record = record
			n.saves++
			n.core.Saved(n.clock())
		}
	}
}

// observe is the owner: it works while it may, and takes its time to stop.
func (n *simNode) observe() {
	if n.core == nil {
		return
	}
	s, now := n.s, n.clock()
	if until := n.core.Until(); until != unset {
		n.until = until
	}
	held, ok := n.core.Held(now)
	switch {
	case ok && !n.working:
		n.working, n.token, n.stopScheduled, n.paused = true, held.Token, false, false
		s.holds++
		s.logf("%s holds %d until local %v", n.name, held.Token, held.Until)
		if held.Token <= s.lastToken && !s.lose {
			s.fail("%s holds with token %d after %d", n.name, held.Token, s.lastToken)
		}
		s.lastToken = held.Token
		if s.faults && s.chance(0.15) {
			s.isolate(n)
		}
	case ok && held.Token != n.token:
		s.fail("%s goes from token %d to %d without a stop", n.name, n.token, held.Token)
	case !ok && n.working && !n.stopScheduled:
		n.stopScheduled = true
		life := n.life
		s.after(time.Duration(float64(s.upTo(simStop))/(1+simRate)), func() { // on its clock at most simStop
			if n.life != life {
				return
			}
			n.step(func(now time.Duration) {
				s.logf("%s stopped %d", n.name, n.token)
				if !n.paused && n.clock() > n.until+time.Millisecond {
					s.fail("the owner on %s stopped %v too late", n.name, n.clock()-n.until)
				}
				n.working = false
				n.core.Stopped(now)
			})
		})
	}
	s.check()
	if n.core == nil {
		return
	}
	if next := n.core.Next(); next < 1<<62 {
		n.wake(max(0, next-now))
	}
}

// wake makes the node tick when that much of its own time has passed.
func (n *simNode) wake(in time.Duration) {
	at := n.s.now + time.Duration(float64(in)/n.rate) + time.Microsecond
	if n.tickAt > n.s.now && n.tickAt <= at {
		return
	}
	n.tickAt = at
	life := n.life
	n.s.after(at-n.s.now, func() {
		if n.life == life {
			n.step(n.core.Tick)
		}
	})
}

// holds says whether the owner on a node may be at work at this real instant.
func (n *simNode) holds() bool { return n.working && n.clock() < n.until }

func (s *sim) check() {
	var holders []string
	for _, name := range s.names {
		if n := s.nodes[name]; n.holds() {
			holders = append(holders, fmt.Sprintf("%s with token %d", name, n.token))
		}
	}
	if len(holders) > 1 {
		s.fail("two holders: %s", strings.Join(holders, ", "))
	}
}

func (s *sim) holder() *simNode {
	for _, name := range s.names {
		if n := s.nodes[name]; n.holds() {
			return n
		}
	}
	return nil
}

func (s *sim) send(from, to string, m Message) {
	s.sent++
	copies := 1
	if s.faults && s.chance(s.dup) {
		copies = 2
	}
	for range copies {
		if s.cut[[2]string{from, to}] || s.faults && s.chance(s.loss) {
			continue
		}
		delay := time.Millisecond + s.upTo(4*time.Millisecond)
		if s.faults && s.chance(s.slow) {
			delay = s.upTo([]time.Duration{simTTL / 8, simTTL / 4, simTTL, 2 * simTTL}[s.rand.IntN(4)])
		}
		s.after(delay, func() {
			n := s.nodes[to]
			if n == nil || n.core == nil {
				return
			}
			if s.verbose {
				s.logf("%s → %s %s", from, to, m.Encode())
			}
			n.step(func(now time.Duration) { n.core.Receive(now, from, m) })
		})
	}
}

func (n *simNode) start() {
	if n.core != nil || n.dead {
		return
	}
	s := n.s
	n.life++
	n.local, n.clockAt, n.tickAt, n.pausedUntil = s.upTo(time.Hour), s.now, 0, 0
	n.rate = s.rate()
	core, err := newCore(Params{Self: n.name, TTL: simTTL, Drift: simDrift, Stop: simStop, GoneWait: simTTL * 5 / 4, Rand: newRand(s.rand.Uint64())}, n.record, n.clock())
	if err != nil {
		s.fail("%s: %v", n.name, err)
		return
	}
	n.core = core
	s.logf("%s starts with %+v", n.name, n.record)
	n.learn(n.plan)
}

// learn gives the node a plan that has the first so many configurations.
func (n *simNode) learn(plan int) {
	n.plan = max(n.plan, plan)
	if n.plan == 0 || n.core == nil {
		return
	}
	from := 0
	if n.record != nil && n.s.faults && !slices.ContainsFunc(n.s.confs, func(c Configuration) bool { return len(c.Gone) > 0 }) {
		from = n.s.rand.IntN(n.plan)
	}
	n.step(func(now time.Duration) {
		n.s.logf("%s knows %d configurations", n.name, n.plan)
		if err := n.core.SetConfigurations(now, slices.Clone(n.s.confs[from:n.plan])); err != nil {
			n.s.fail("%s: %v", n.name, err)
		}
	})
}

func (n *simNode) crash(down time.Duration) {
	if n.core == nil {
		return
	}
	n.s.logf("%s crashes for %v", n.name, down)
	n.core, n.working = nil, false
	n.life++
	n.s.after(down, n.start)
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
