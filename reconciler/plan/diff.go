package plan

import (
	"cmp"
	"maps"
	"slices"
)

// Risk says how much a change may hurt what runs.
type Risk string

// The risks, from nothing stops to pods are evicted.
const (
	// RiskLow: nothing that runs is touched.
	RiskLow Risk = "low"
	// RiskMedium: what runs goes on; what is scheduled next, or how the agent behaves, changes.
	RiskMedium Risk = "medium"
	// RiskHigh: pods may be evicted, or a node leaves the fleet's care.
	RiskHigh Risk = "high"
)

// Action is what happens to a node or a pool.
type Action string

// The actions.
const (
	Added   Action = "added"
	Removed Action = "removed"
	Changed Action = "changed"
	// Moved: the node is in another pool.
	Moved Action = "moved"
)

// FieldChange is one changed field. Old is empty if the field is new, New if it is gone.
type FieldChange struct {
	// Path is the field's path in the plan, such as labels["tier"].
	Path string `json:"path"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
	Risk Risk   `json:"risk"`
	// Why says what makes it more than low.
	Why string `json:"why,omitempty"`
}

// Change is what happens to one node, or, if Node is empty, to the pool itself.
type Change struct {
	Action Action `json:"action"`
	// Pool is the pool now; the former one if the node or pool was removed.
	Pool string `json:"pool"`
	// From is the former pool of a node that moved.
	From string `json:"from,omitempty"`
	Node string `json:"node,omitempty"`
	// Risk is the highest of the fields', or the action's own.
	Risk   Risk          `json:"risk"`
	Why    string        `json:"why,omitempty"`
	Fields []FieldChange `json:"fields,omitempty"`
}

// Diff gives what changes between two sets of pools, sorted by pool and node, a pool before its nodes. It is pure. Pools
// that are the same in both may be left out of both. A node that is in another pool than before has moved.
func Diff(old, new []*Pool) []Change {
	before, after := index(old), index(new)
	var out []Change
	for _, name := range union(before.pools, after.pools) {
		if c, ok := diffPool(before.pools[name], after.pools[name]); ok {
			out = append(out, c)
		}
	}
	for _, name := range union(before.nodes, after.nodes) {
		if c, ok := diffNode(before.nodes[name], after.nodes[name]); ok {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b Change) int { return cmp.Or(cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Node, b.Node)) })
	return out
}

// fleetIndex finds pools and nodes by name.
type fleetIndex struct {
	pools map[string]*Pool
	nodes map[string]*Node
}

func index(pools []*Pool) fleetIndex {
	x := fleetIndex{map[string]*Pool{}, map[string]*Node{}}
	for _, p := range pools {
		x.pools[p.Name] = p
		for i := range p.Nodes {
			x.nodes[p.Nodes[i].Name] = &p.Nodes[i]
		}
	}
	return x
}

func union[V any](a, b map[string]V) []string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(all)
	return slices.Compact(all)
}

func diffPool(old, new *Pool) (Change, bool) {
	switch {
	case old == nil:
		return Change{Action: Added, Pool: new.Name, Risk: RiskLow}, true
	case new == nil && len(old.Nodes) > 0:
		return Change{Action: Removed, Pool: old.Name, Risk: RiskHigh, Why: "its NodePool goes, and its nodes get no more plans unless they moved"}, true
	case new == nil:
		return Change{Action: Removed, Pool: old.Name, Risk: RiskLow}, true
	}
	var f fields
	f.text("fleet", old.Fleet, new.Fleet, RiskHigh, "nodes accept no revision of another fleet")
	f.text("displayName", old.DisplayName, new.DisplayName, RiskLow, "")
	f.text("type", old.Type, new.Type, RiskMedium, "what selects pools by type selects others")
	f.mapping("labels", old.Labels, new.Labels)
	f.mapping("annotations", old.Annotations, new.Annotations)
	f.taints(old.Taints, new.Taints)
	f.autonomy(old.AutonomyDuration, new.AutonomyDuration)
	f.mapping("movedTo", old.MovedTo, new.MovedTo)
	return f.change(Change{Action: Changed, Pool: new.Name})
}

func diffNode(old, new *Node) (Change, bool) {
	switch {
	case old == nil:
		c := Change{Action: Added, Pool: new.Pool, Node: new.Name, Risk: RiskLow}
		if slices.ContainsFunc(new.Taints, func(t Taint) bool { return t.Effect == "NoExecute" }) {
			c.Risk, c.Why = RiskMedium, "it gets a NoExecute taint: pods it already runs may be evicted"
		}
		return c, true
	case new == nil:
		return Change{Action: Removed, Pool: old.Pool, Node: old.Name, Risk: RiskHigh, Why: "it keeps its last plan and gets no more"}, true
	}
	c := Change{Action: Changed, Pool: new.Pool, Node: new.Name}
	if old.Pool != new.Pool {
		c.Action, c.From, c.Risk, c.Why = Moved, old.Pool, RiskMedium, "what selects it by its pool selects others"
	}
	var f fields
	f.text("fleet", old.Fleet, new.Fleet, RiskHigh, "the node accepts no revision of another fleet")
	f.text("arch", old.Arch, new.Arch, RiskHigh, "images of the other architecture do not run")
	f.mapping("labels", old.Labels, new.Labels)
	f.mapping("annotations", old.Annotations, new.Annotations)
	f.taints(old.Taints, new.Taints)
	f.hardware(old.Hardware, new.Hardware)
	f.agent(old.Agent, new.Agent)
	return f.change(c)
}
