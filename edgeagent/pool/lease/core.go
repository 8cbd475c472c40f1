package lease

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Params are what a Core needs to know from the start.
type Params struct {
	Self string
	// TTL is how long a voter binds itself. All that may hold should have the same.
	TTL time.Duration
	// Drift is how much faster one node's clock may run than another's, as a fraction.
	Drift float64
	// Stop is how long the owner may need to stop what only the holder does.
	Stop time.Duration
	// GoneWait is how long nodes that are declared gone still count: longer than any holder's TTL.
	GoneWait time.Duration
	// Rand spreads candidates, and tells one run of a node from the next.
	Rand *rand.Rand
}

// Validate says what is wrong.
func (p Params) Validate() error {
	switch {
	case p.Self == "":
		return errors.New("lease: this node's name is empty")
	case p.TTL <= 0 || p.TTL > MaxTTL:
		return fmt.Errorf("lease: TTL %v; it must be above 0 and at most %v", p.TTL, MaxTTL)
	case p.Drift < 0 || p.Drift > 0.5:
		return fmt.Errorf("lease: drift %v; it must be 0 to 0.5", p.Drift)
	case p.Stop < 0 || p.Stop > p.TTL/4:
		return fmt.Errorf("lease: stop %v; it must be at most a quarter of the TTL, %v", p.Stop, p.TTL/4)
	case p.GoneWait < p.TTL:
		return fmt.Errorf("lease: GoneWait %v; it must be at least the TTL, %v", p.GoneWait, p.TTL)
	case p.Rand == nil:
		return errors.New("lease: no source of randomness")
	}
	return nil
}

// use is how long a holder may hold, counted from before it asked.
func (p Params) use() time.Duration { return time.Duration(float64(p.TTL) * (1 - p.Drift)) }

// Record is what a node keeps on disk of a lease.
type Record struct {
	// Token is the highest this voter has granted.
	Token  uint64  `json:"token"`
	Grants []Grant `json:"grants,omitempty"`
	// Base is the configuration in use; Started are newer ones that may be in use too.
	Base    *Configuration  `json:"base,omitempty"`
	Started []Configuration `json:"started,omitempty"`
}

// slot is a grant that this voter is bound by. There is a second one while the lease is being handed over.
type slot struct {
	Grant
	until   time.Duration
	leaving bool
}

type phase int

const (
	idle     phase = iota
	probing        // asking who would grant
	asking         // asking for grants
	claiming       // has the next grants; waits until the holder yields
	holding
)

// round is one ask to all voters.
type round struct {
	nonce          uint64
	after          *Grant
	configurations []Configuration
	asked          time.Duration
	granted        map[string]bool
	answered       map[string]bool
	relearn        bool // a refusal said more about configurations
}

// Core is one node's part in one lease: a state machine without clock, disk or network. Time is what is handed in: any origin, but it never
// goes back and counts suspension. The caller is one goroutine at a time. After each call it calls Take until there is nothing to save, and
// only then sends.
type Core struct {
	p     Params
	known map[uint64]Configuration
	ids   map[uint64]ID // of known, as far as they were needed
	// goneFrom is when nodes that are declared gone need not be asked any more.
	goneFrom time.Duration
	dirty    bool
	out      []Envelope

	// As a voter.
	token   uint64
	slots   []slot
	blocked time.Duration // grants nothing before this
	base    *Configuration
	started []Configuration // ascending, all newer than base

	// As a candidate and holder.
	phase      phase
	unwilling  bool
	working    bool // the owner may still be at work under c.held
	stopping   bool
	yieldTo    string
	yielded    bool // the holder that the round waits for said that it is over
	held       uint64
	last       uint64 // highest token this run asked for
	seen       uint64 // highest token others told of
	until      time.Duration
	leaveBy    time.Duration
	round      round
	nonce      uint64
	peers      map[string]uint64 // newest generation each is known to know
	hint       slot              // the holder, as others tell of it
	renewAt    time.Duration
	claimAt    time.Duration
	campaignAt time.Duration
	preferAt   time.Duration
	steadyAt   time.Duration // not before this does this node take over from a holder that works
	seenHolder slot          // what consider went by last
	attempts   int
}

// unset is no time at all.
const unset = time.Duration(-1 << 62)

// newCore starts from what the disk has. No record is a node that has none yet, or has lost it: it grants nothing for a TTL.
func newCore(p Params, record *Record, now time.Duration) (*Core, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	c := &Core{p: p, known: map[uint64]Configuration{}, ids: map[uint64]ID{}, peers: map[string]uint64{}, nonce: p.Rand.Uint64() >> 1,
		goneFrom: now + p.GoneWait, blocked: unset, campaignAt: unset, preferAt: unset, leaveBy: unset, steadyAt: now + 2*p.TTL}
	if record == nil {
		c.blocked = now + p.TTL
		return c, nil
	}
	c.token, c.base, c.started = record.Token, record.Base, slices.Clone(record.Started)
	for _, g := range record.Grants {
		c.slots = append(c.slots, slot{Grant: g, until: now + g.TTL})
	}
	if c.base != nil {
		c.known[c.base.Generation] = *c.base
	}
	for _, s := range c.started {
		c.known[s.Generation] = s
	}
	return c, nil
}

// SetConfigurations tells what the plan says, oldest first: every configuration since one that all are known to use, the newest last. For a
// node without a record that is the pool's first. A node with a record may be told only of the newest, unless nodes are declared gone.
func (c *Core) SetConfigurations(now time.Duration, chain []Configuration) error {
	if len(chain) == 0 || len(chain) > maxConfigurations {
		return fmt.Errorf("set configurations: %d; there must be 1 to %d", len(chain), maxConfigurations)
	}
	for i, conf := range chain {
		if err := conf.Validate(); err != nil {
			return fmt.Errorf("set configurations: %w", err)
		}
		if i > 0 && conf.Generation <= chain[i-1].Generation {
			return fmt.Errorf("set configurations: generation %d comes after %d", conf.Generation, chain[i-1].Generation)
		}
		if old, ok := c.known[conf.Generation]; ok && old.ID() != conf.ID() {
			return fmt.Errorf("set configurations: generation %d was another configuration before; a change must have a higher generation", conf.Generation)
		}
	}
	for _, conf := range chain {
		if _, ok := c.known[conf.Generation]; !ok && (c.base == nil || conf.Generation > c.base.Generation) {
			if len(conf.Gone) > 0 {
				c.goneFrom = now + c.p.GoneWait
			}
			c.known[conf.Generation] = conf
		}
	}
	if c.base == nil {
		oldest := chain[0]
		c.base, c.dirty = &oldest, true
	}
	c.Tick(now)
	return nil
}

// SetWilling says whether this node can do what the holder does. One that holds and cannot hands over.
func (c *Core) SetWilling(now time.Duration, willing bool) {
	if willing && c.unwilling {
		c.steadyAt = now + 2*c.p.TTL
	}
	c.unwilling = !willing
	c.Tick(now)
}

// Take gives what is to be done. A record must be on disk before anything else happens: then call Saved, or Unsaved, and Take again.
func (c *Core) Take() (*Record, []Envelope) {
	if c.dirty {
		r := &Record{Token: c.token, Base: c.base, Started: slices.Clone(c.started)}
		for _, s := range c.slots {
			r.Grants = append(r.Grants, s.Grant)
		}
		return r, nil
	}
	out := c.out
	c.out = nil
	return nil, out
}

// Saved tells that the record Take gave is on disk.
func (c *Core) Saved(now time.Duration) {
	c.dirty = false
	c.advance(now)
}

// Unsaved tells that it is not. What would have been said is not said, as if the network had lost it; the next Take gives a record again.
func (c *Core) Unsaved() { c.out = nil }

func (c *Core) declared() Configuration {
	var newest Configuration
	for g, conf := range c.known {
		if g > newest.Generation {
			newest = conf
		}
	}
	return newest
}

// find gives the configuration that an ID names, if this node knows it.
func (c *Core) find(id ID) (Configuration, bool) {
	conf, ok := c.known[id.Generation]
	return conf, ok && c.id(conf) == id
}

// id is the ID of a configuration that this node knows.
func (c *Core) id(conf Configuration) ID {
	id, ok := c.ids[conf.Generation]
	if !ok {
		id = conf.ID()
		c.ids[conf.Generation] = id
	}
	return id
}

func (c *Core) newestStarted() uint64 {
	if len(c.started) > 0 {
		return c.started[len(c.started)-1].Generation
	}
	if c.base != nil {
		return c.base.Generation
	}
	return 0
}

// start notes that a configuration may be in use.
func (c *Core) start(conf Configuration) {
	if conf.Generation <= c.base.Generation || slices.ContainsFunc(c.started, func(s Configuration) bool { return s.Generation == conf.Generation }) {
		return
	}
	c.started = append(c.started, conf)
	slices.SortFunc(c.started, func(a, b Configuration) int { return int(int64(a.Generation) - int64(b.Generation)) })
	c.dirty = true
}

// retire notes that all configurations older than one are out of use.
func (c *Core) retire(base Configuration) {
	if base.Generation <= c.base.Generation {
		return
	}
	c.base, c.dirty = &base, true
	c.started = slices.DeleteFunc(slices.Clone(c.started), func(s Configuration) bool { return s.Generation <= base.Generation })
	for g := range c.known {
		if g < base.Generation {
			delete(c.known, g)
			delete(c.ids, g)
		}
	}
}

// goneIn are the nodes of a configuration that newer ones of a list declare to be no more, if that was known long enough: what a node granted
// before it was gone may still run.
func (c *Core) goneIn(conf Configuration, list []Configuration, now time.Duration) map[string]bool {
	gone := map[string]bool{}
	for _, newer := range list {
		for _, name := range newer.Gone {
			if newer.Generation > conf.Generation && now >= c.goneFrom {
				gone[name] = true
			}
		}
	}
	return gone
}

// most says whether more than half of the voters of each configuration in a list are in a set.
func (c *Core) most(list []Configuration, now time.Duration, in func(name string) bool) bool {
	for _, conf := range list {
		if !conf.majority(c.goneIn(conf, list, now), in) {
			return false
		}
	}
	return true
}

func (c *Core) send(to string, m Message) {
	m.Known = c.declared().Generation
	c.out = append(c.out, Envelope{to, m})
}
