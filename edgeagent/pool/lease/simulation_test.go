package lease

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// healed is the bound on how long a healed pool may be without a holder: what ran before must be over, and no candidate waits longer.
const healed = 4 * simTTL

// simulate is one run from one seed: a minute of faults, then none, and the pool must have its preferred holder.
func simulate(seed uint64, heal, verbose bool) *sim {
	s := &sim{rand: rand.New(rand.NewPCG(seed, 7)), nodes: map[string]*simNode{}, cut: map[[2]string]bool{}, faults: true, verbose: verbose}
	s.loss = []float64{0, 0.02, 0.2}[s.rand.IntN(3)]
	s.dup = []float64{0, 0.05, 0.3}[s.rand.IntN(3)]
	s.slow = []float64{0, 0.02, 0.2}[s.rand.IntN(3)]
	s.declare()
	for _, name := range s.names {
		n := &simNode{s: s, name: name}
		s.nodes[name] = n
		if s.confs[0].votes(name) {
			n.plan = 1
		}
		s.after(s.upTo(simTTL), n.start)
	}
	for i := 1; i < len(s.confs); i++ {
		s.after(s.upTo(5*time.Second)+time.Duration(i)*8*time.Second, func() { s.publish(i + 1) })
	}
	for at := time.Duration(0); at < time.Minute; at += s.upTo(3 * time.Second) {
		s.after(at, s.nemesis)
	}
	s.run(time.Minute)
	if heal {
		s.heal()
	}
	return s
}

// declare makes up the configurations: one to six, each one or two steps from the one before, or quite another. Some say that nodes are gone.
func (s *sim) declare() {
	s.names = []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	count := 1
	if s.chance(0.7) {
		count = 1 + s.rand.IntN(6)
	} else {
		s.lose = s.chance(0.5)
	}
	alive := slices.Clone(s.names)
	for g := range count {
		conf := Configuration{Generation: uint64(g + 1)}
		s.rand.Shuffle(len(alive), func(i, j int) { alive[i], alive[j] = alive[j], alive[i] })
		if g > 0 && s.chance(0.7) {
			conf.Voters = slices.Clone(s.confs[g-1].Voters[min(1, len(s.confs[g-1].Voters)-1):])
		}
		if g > 0 && s.chance(0.2) && len(alive) > 5 {
			conf.Gone = slices.Clone(alive[:1+s.rand.IntN(2)])
			alive = alive[len(conf.Gone):]
			conf.Voters = slices.DeleteFunc(conf.Voters, func(v Voter) bool { return slices.Contains(conf.Gone, v.Name) })
		}
		for _, name := range alive[:1+s.rand.IntN(4)] {
			if !conf.votes(name) {
				conf.Voters = append(conf.Voters, Voter{Name: name, Priority: s.rand.IntN(4)})
			}
		}
		conf.Voters[0].Priority = max(conf.Voters[0].Priority, 1)
		s.confs = append(s.confs, conf)
	}
}

// publish lets nodes learn of a configuration, each in its own time; some do not before the end.
func (s *sim) publish(plan int) {
	s.logf("published: %+v", s.confs[plan-1])
	for _, name := range s.confs[plan-1].Gone {
		n := s.nodes[name]
		n.crash(0)
		n.dead = true
	}
	for _, name := range s.names {
		if s.chance(0.85) {
			n := s.nodes[name]
			s.after(s.upTo(10*time.Second), func() { n.learn(plan) })
		}
	}
}

// nemesis does one thing to the pool; half of the time to whoever holds.
func (s *sim) nemesis() {
	if s.now > time.Minute {
		return
	}
	n := s.nodes[s.names[s.rand.IntN(len(s.names))]]
	if h := s.holder(); h != nil && s.chance(0.5) {
		n = h
	}
	switch s.rand.IntN(9) {
	case 0, 1:
		n.crash(s.upTo(2 * simTTL))
		if s.lose && s.chance(0.5) {
			s.logf("%s loses its disk", n.name)
			n.record = nil
		}
	case 2:
		s.isolate(n)
	case 3:
		s.split()
	case 4:
		for _, other := range s.names {
			s.cut[[2]string{n.name, other}] = s.chance(0.5) // one way
		}
	case 5:
		n.pausedUntil = s.now + s.upTo(2*simTTL)
	case 6:
		n.setRate(s.rate())
	case 7:
		n.unwilling = s.chance(0.5)
		n.step(func(now time.Duration) { n.core.SetWilling(now, !n.unwilling) })
	case 8:
		clear(s.cut)
	}
}

func (s *sim) isolate(n *simNode) {
	s.logf("%s is cut off", n.name)
	for _, other := range s.names {
		s.cut[[2]string{n.name, other}], s.cut[[2]string{other, n.name}] = true, true
	}
}

func (s *sim) split() {
	side := map[string]bool{}
	for _, name := range s.names {
		side[name] = s.chance(0.5)
	}
	s.logf("split: %v", side)
	for _, a := range s.names {
		for _, b := range s.names {
			s.cut[[2]string{a, b}] = side[a] != side[b]
		}
	}
}

// heal ends all faults and checks that the pool gets a holder in time, then the preferred one, and that this one stays.
func (s *sim) heal() {
	if s.failure != "" {
		return
	}
	s.logf("healed")
	s.faults = false
	clear(s.cut)
	for _, name := range s.names {
		n := s.nodes[name]
		n.pausedUntil = 0
		n.start()
		n.learn(len(s.confs))
		n.unwilling = false
		n.step(func(now time.Duration) { n.core.SetWilling(now, true) })
	}
	s.run(s.now + healed)
	if s.holder() == nil {
		s.fail("healed for %v, and nobody holds", healed)
	}
	s.run(s.now + 8*simTTL)
	newest := s.confs[len(s.confs)-1]
	h := s.holder()
	if h == nil {
		s.fail("nobody holds long after it healed")
		return
	}
	for _, v := range newest.Voters {
		if v.Priority > newest.priority(h.name) {
			s.fail("%s holds, and %s of %+v is to be preferred", h.name, v.Name, newest.Voters)
		}
	}
	saves := 0
	for _, n := range s.nodes {
		saves -= n.saves
	}
	token := h.token
	s.run(s.now + 10*simTTL)
	for _, n := range s.nodes {
		saves += n.saves
	}
	if again := s.holder(); again != h || h.token != token {
		s.fail("the holder %s did not stay", h.name)
	}
	if saves != 0 {
		s.fail("%d writes to disk while the holder stayed", saves)
	}
}

// TestSimulation runs seeds. HOLDFAST_LEASE_RUNS says how many, HOLDFAST_LEASE_SEED prints one, HOLDFAST_LEASE_SAFETY looks at liveness in few only.
func TestSimulation(t *testing.T) {
	if seed, err := strconv.ParseUint(os.Getenv("HOLDFAST_LEASE_SEED"), 10, 64); err == nil {
		s := simulate(seed, true, true)
		fmt.Println(strings.Join(s.trace, "\n"))
		if s.failure != "" {
			t.Error(s.failure)
		}
		return
	}
	runs := 60
	if n, err := strconv.Atoi(os.Getenv("HOLDFAST_LEASE_RUNS")); err == nil {
		runs = n
	}
	safety := os.Getenv("HOLDFAST_LEASE_SAFETY") != ""
	holds, sent := 0, 0
	for seed := range uint64(runs) {
		s := simulate(seed, !safety || seed%8 == 0, false)
		if s.failure != "" {
			t.Fatalf("seed %d: %s\nHOLDFAST_LEASE_SEED=%d shows it", seed, s.failure, seed)
		}
		holds += s.holds
		sent += s.sent
	}
	t.Logf("%d runs, %d times somebody began to hold, %d messages", runs, holds, sent)
	if holds < runs {
		t.Errorf("only %d holders in %d runs: the simulation does too little", holds, runs)
	}
}
