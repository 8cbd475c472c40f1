package hub

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// picture is all that the controllers know of the fleet repo. It is never changed once published: whoever has one has a
// whole one.
type picture struct {
	// fleet is the fleet's id, pinned at enrolment.
	fleet string
	// source, verified and planned are what holds for every pool: was the repo read, was the newest revision accepted,
	// could the accepted one be rolled out.
	source, verified, planned condition.Condition
	// rollout is the revision that was rolled out last, or nil if none was since the hub started. Without one the
	// controllers change nothing but statuses.
	rollout *rollout
}

// rollout is one revision as the cluster is to have it.
type rollout struct {
	revision string
	// pools are the pools that have a plan, by name: of this revision, or, where the pool is in broken, of an earlier one.
	pools map[string]*plan.Pool
	// broken are the pools of this revision that gave no plan, and why. Their objects stay as they are.
	broken map[string]condition.Condition
	// clashes are what pools are at odds about.
	clashes clashes
	// nodes are the nodes of pools, by name, but for those in clashes.
	nodes map[string]*plan.Node
}

// clashes are nodes that more than one pool names, or that moved to where they are not. Nothing is decided about them.
type clashes struct {
	nodes map[string]bool
	// pools are the pools whose files are at odds, and what to say of them.
	pools map[string]condition.Condition
}

// newRollout composes a revision from the plans of its pools. Pools that gave none keep the plan of before, and a node
// keeps its pool while that is broken: what nobody could read decides nothing.
func newRollout(revision string, plans []*plan.Pool, broken map[string]condition.Condition, odds clashes, before *rollout) *rollout {
	r := &rollout{revision: revision, pools: map[string]*plan.Pool{}, broken: broken, clashes: odds, nodes: map[string]*plan.Node{}}
	if before != nil {
		for name := range broken {
			if kept := before.pools[name]; kept != nil {
				r.add(kept)
			}
		}
	}
	for _, p := range plans {
		r.add(p)
	}
	return r
}

func (r *rollout) add(p *plan.Pool) {
	r.pools[p.Name] = p
	for i := range p.Nodes {
		if n := &p.Nodes[i]; r.nodes[n.Name] == nil && !r.clashes.nodes[n.Name] {
			r.nodes[n.Name] = n
		}
	}
}

// has tells whether the revision has the pool, with a plan or without one.
func (r *rollout) has(pool string) bool {
	if _, broken := r.broken[pool]; broken {
		return true
	}
	return r.pools[pool] != nil
}

// node gives the plan of a node whose EdgeNode, if there is one, says it belongs to pool now, and whether it is decided. It
// is not while pools are at odds about it, and not while that pool is broken and the node's plan is another's: the node may
// have moved or not.
func (r *rollout) node(name, pool string) (n *plan.Node, decided bool) {
	if r.clashes.nodes[name] {
		return nil, false
	}
	n = r.nodes[name]
	if _, broken := r.broken[pool]; broken && (n == nil || n.Pool != pool) {
		return nil, false
	}
	return n, true
}

// names gives the pools of the revision, sorted.
func (r *rollout) names() []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(r.pools)), maps.Keys(r.broken))
	slices.Sort(names)
	return slices.Compact(names)
}

// poolPlanned gives PlanReady for one pool.
func (p *picture) poolPlanned(pool string) condition.Condition {
	if p.planned.Status == condition.True && p.rollout != nil {
		if c, broken := p.rollout.broken[pool]; broken {
			return c
		}
		if c, odd := p.rollout.clashes.pools[pool]; odd {
			return c
		}
	}
	return p.planned
}

// board is where the tracker puts the newest picture and the controllers find it.
type board struct {
	current atomic.Pointer[picture]
	// changed is told of every picture after it was put up.
	changed func(*picture)
}

func (b *board) put(p *picture) {
	b.current.Store(p)
	if b.changed != nil {
		b.changed(p)
	}
}
