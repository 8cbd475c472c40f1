package lease

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

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

// inUse are the configurations whose majorities are needed, with the declared one once enough voters know it.
func (c *Core) inUse(now time.Duration) []Configuration {
	if next := c.declared(); next.Generation > c.newestStarted() && c.knownToMost(now, next) {
		return c.chain(next)
	}
	return c.chain(Configuration{})
}

// chain is the base, what was started, and a next one if it is newer. Where nodes are gone it is every configuration in between: which of them were
// started may have been written down only where it is lost.
func (c *Core) chain(next Configuration) []Configuration {
	newest := max(next.Generation, c.newestStarted())
	var list, all []Configuration
	gone := false
	for _, g := range slices.Sorted(maps.Keys(c.known)) {
		if g > newest {
			break
		}
		conf := c.known[g]
		all, gone = append(all, conf), gone || g > c.base.Generation && len(conf.Gone) > 0
		if g == c.base.Generation || g == next.Generation || slices.ContainsFunc(c.started, func(s Configuration) bool { return s.Generation == g }) {
			list = append(list, conf)
		}
	}
	if gone {
		return all
	}
	return list
}

// knownToMost says whether majorities of all configurations would grant under the next one.
func (c *Core) knownToMost(now time.Duration, next Configuration) bool {
	return c.most(c.chain(next), now, func(name string) bool { return name == c.p.Self || c.peers[name] >= next.Generation })
}

// Peers are the nodes that this one must be able to reach, by name. While members change, former ones are among them.
func (c *Core) Peers() []string {
	if c.base == nil {
		return nil
	}
	var names []string
	for _, conf := range c.chain(c.declared()) {
		for _, v := range conf.Voters {
			if v.Name != c.p.Self {
				names = append(names, v.Name)
			}
		}
	}
	slices.SortFunc(names, strings.Compare)
	return slices.Compact(names)
}

// learn takes over which configurations are in use from a voter that refused because of them.
func (c *Core) learn(m Message) {
	if m.Base != nil {
		if conf, ok := c.find(*m.Base); ok {
			c.retire(conf)
		}
	}
	for _, id := range m.Started {
		if conf, ok := c.find(id); ok {
			c.start(conf)
		}
	}
}
