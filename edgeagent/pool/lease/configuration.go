package lease

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Changing the voters. Nodes learn of a new configuration when their plan arrives, each at its own time, and may skip some. What is known is
// therefore not yet in use: the configuration in use is the base. A holder or candidate that has seen that majorities of the old and of the
// new configuration know the new one starts it: from then on its asks name base and all that was started, and need a majority of each.
// Voters write down what was started before they answer, and refuse asks that leave out any of it. When one such ask is complete, a majority of
// every older configuration knows the newest and refuses to go without it. So the older ones are retired, and the newest is the base.

const (
	maxVoters         = 128
	maxConfigurations = 32
	maxName           = 253
)

// Voter is a node that grants the lease, and may hold it.
type Voter struct {
	Name string `json:"name"`
	// Priority says who holds if it can: the highest. A voter of priority 0 never holds: a witness, or a node without the means.
	Priority int `json:"priority"`
}

// Configuration says who votes on a lease. It comes from the plan.
type Configuration struct {
	// Generation orders a pool's configurations. It must rise whenever anything else here changes, also when a change is undone.
	Generation uint64  `json:"generation"`
	Voters     []Voter `json:"voters"`
	// Gone are voters of older configurations that will never run again. They are not asked for their grant any more. A plan that names one that
	// is alive can make two holders.
	Gone []string `json:"gone,omitempty"`
}

// ID names a configuration in messages.
type ID struct {
	Generation uint64 `json:"generation"`
	Digest     string `json:"digest"`
}

// ID gives the configuration's name: two with the same generation and other voters have different ones.
func (c Configuration) ID() ID {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	sum := sha256.Sum256(b)
	return ID{Generation: c.Generation, Digest: hex.EncodeToString(sum[:])}
}

// Validate says what is wrong with a configuration.
func (c Configuration) Validate() error {
	if c.Generation == 0 || c.Generation >= 1<<31 {
		return fmt.Errorf("a configuration's generation is %d; it must be 1 to %d", c.Generation, 1<<31-1)
	}
	if len(c.Voters) == 0 || len(c.Voters) > maxVoters {
		return fmt.Errorf("configuration %d has %d voters; it must have 1 to %d", c.Generation, len(c.Voters), maxVoters)
	}
	seen := map[string]bool{}
	for _, v := range c.Voters {
		if v.Name == "" || len(v.Name) > maxName {
			return fmt.Errorf("configuration %d: voter name %.20q must have 1 to %d bytes", c.Generation, v.Name, maxName)
		}
		if seen[v.Name] {
			return fmt.Errorf("configuration %d names voter %q twice", c.Generation, v.Name)
		}
		if v.Priority < 0 {
			return fmt.Errorf("configuration %d: voter %q has priority %d; the lowest is 0, which never holds", c.Generation, v.Name, v.Priority)
		}
		seen[v.Name] = true
	}
	for _, name := range c.Gone {
		if seen[name] {
			return fmt.Errorf("configuration %d says that %q is gone and names it as a voter", c.Generation, name)
		}
	}
	return nil
}

// priority is a node's priority; a node that is not a voter has none.
func (c Configuration) priority(name string) int {
	for _, v := range c.Voters {
		if v.Name == name {
			return v.Priority
		}
	}
	return 0
}

func (c Configuration) votes(name string) bool {
	return slices.ContainsFunc(c.Voters, func(v Voter) bool { return v.Name == name })
}

// rank is a node's place among those that may hold, without one of them: 0 is the first choice.
func (c Configuration) rank(name, without string) int {
	list := slices.Clone(c.Voters)
	slices.SortFunc(list, func(a, b Voter) int {
		if a.Priority != b.Priority {
			return b.Priority - a.Priority
		}
		return strings.Compare(a.Name, b.Name)
	})
	rank := 0
	for _, v := range list {
		if v.Name == name {
			break
		}
		if v.Priority > 0 && v.Name != without {
			rank++
		}
	}
	return rank
}

// majority says whether more than half of those voters that are not gone are in a set. If all are gone nobody is left to ask.
func (c Configuration) majority(gone map[string]bool, in func(name string) bool) bool {
	voters, yes := 0, 0
	for _, v := range c.Voters {
		if gone[v.Name] {
			continue
		}
		voters++
		if in(v.Name) {
			yes++
		}
	}
	return voters == 0 || 2*yes > voters
}
