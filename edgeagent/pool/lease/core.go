package lease

import (
	"slices"
	"time"
)

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

func (c *Core) send(to string, m Message) {
	m.Known = c.declared().Generation
	c.out = append(c.out, Envelope{to, m})
}
