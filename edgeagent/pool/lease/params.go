package lease

import (
	"errors"
	"fmt"
	"math/rand/v2"
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
