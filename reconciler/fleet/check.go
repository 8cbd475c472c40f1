package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// Check checks what spans pools: a node belongs to one pool, and movedTo names a pool that has the node. The pools may
// come in any order.
func Check(pools []*plan.Pool) Problems {
	var c Checker
	for _, p := range pools {
		c.Add(p)
	}
	return c.Problems()
}

// Checker is Check for pools that come one at a time. It keeps names only. The zero value is ready.
type Checker struct {
	pools  map[string]bool
	nodes  map[string][]string          // the pools that name the node
	movers map[string]map[string]string // by pool: node and the pool it moved to
}

// Add takes in one pool.
func (c *Checker) Add(p *plan.Pool) {
	if c.pools == nil {
		c.pools, c.nodes, c.movers = map[string]bool{}, map[string][]string{}, map[string]map[string]string{}
	}
	c.pools[p.Name] = true
	for _, n := range p.Nodes {
		c.nodes[n.Name] = append(c.nodes[n.Name], p.Name)
	}
	if len(p.MovedTo) > 0 {
		c.movers[p.Name] = p.MovedTo
	}
}

// Problems gives what is wrong with the pools taken in.
func (c *Checker) Problems() Problems {
	var ps Problems
	for node, pools := range c.nodes {
		if len(pools) < 2 {
			continue
		}
		slices.Sort(pools)
		for _, pool := range pools[1:] {
			ps = append(ps, Problem{
				File: poolsDir + pool, Path: "pool.nodes." + quoteLabel(node),
				Message: fmt.Sprintf("node %s is in pool %s as well: a node belongs to one pool", node, pools[0]),
				Reason:  condition.ReasonDuplicateNode,
			})
		}
	}
	for pool, moves := range c.movers {
		for _, node := range slices.Sorted(maps.Keys(moves)) {
			if msg := c.checkMove(node, moves[node]); msg != "" {
				ps = append(ps, Problem{File: poolsDir + pool, Path: "pool.movedTo." + quoteLabel(node), Message: msg})
			}
		}
	}
	return ps.tidy()
}

// Contested gives the nodes about which the pools taken in decide nothing, since two name one or it moved to where no pool
// has it, and the pools whose files are at odds. Unlike Problems it leaves none out.
func (c *Checker) Contested() (nodes, pools map[string]bool) {
	nodes, pools = map[string]bool{}, map[string]bool{}
	for node, names := range c.nodes {
		if len(names) < 2 {
			continue
		}
		nodes[node] = true
		for _, pool := range names {
			pools[pool] = true
		}
	}
	for pool, moves := range c.movers {
		for node, to := range moves {
			if c.checkMove(node, to) == "" {
				continue
			}
			pools[pool] = true
			if len(c.nodes[node]) == 0 { // a pool that names it decides, whatever others say
				nodes[node] = true
			}
		}
	}
	return nodes, pools
}

// checkMove follows a node from pool to pool, as its agent would, and says what is wrong on the way.
func (c *Checker) checkMove(node, to string) string {
	for seen := map[string]bool{}; !slices.Contains(c.nodes[node], to); {
		next, moved := c.movers[to][node]
		switch {
		case !c.pools[to]:
			return fmt.Sprintf("node %s moved to pool %s, which is not there", node, to)
		case !moved && len(c.nodes[node]) == 0:
			return fmt.Sprintf("node %s moved to pool %s, which does not name it: no pool does", node, to)
		case !moved:
			return fmt.Sprintf("node %s moved to pool %s, which does not name it: it is in %s", node, to, strings.Join(c.nodes[node], " and "))
		case seen[to]:
			return fmt.Sprintf("node %s moves in a circle: from pool %s it gets back there", node, to)
		}
		seen[to] = true
		to = next
	}
	return ""
}
