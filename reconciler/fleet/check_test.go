package fleet_test

import (
	"slices"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

func poolOf(name string, movedTo map[string]string, nodes ...string) *plan.Pool {
	p := &plan.Pool{Fleet: "kelp", Name: name, MovedTo: movedTo}
	for _, n := range nodes {
		p.Nodes = append(p.Nodes, plan.Node{Name: n, Pool: name})
	}
	return p
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name  string
		pools []*plan.Pool
		want  string
	}{
		{"fine", []*plan.Pool{poolOf("a", map[string]string{"x": "b"}, "n"), poolOf("b", nil, "x")}, ""},
		{"node in two pools", []*plan.Pool{poolOf("b", nil, "n"), poolOf("a", nil, "n")}, "pools/b: pool.nodes.n: node n is in pool a as well: a node belongs to one pool"},
		{"moved to nowhere", []*plan.Pool{poolOf("a", map[string]string{"x-1": "c"})}, `pools/a: pool.movedTo."x-1": node x-1 moved to pool c, which is not there`},
		{"moved, not named", []*plan.Pool{poolOf("a", map[string]string{"x": "b"}), poolOf("b", nil)}, "pools/a: pool.movedTo.x: node x moved to pool b, which does not name it: no pool does"},
		{"moved on", []*plan.Pool{poolOf("a", map[string]string{"x": "b"}), poolOf("b", map[string]string{"x": "c"}), poolOf("c", nil, "x")}, ""},
		{"moved in a circle", []*plan.Pool{poolOf("a", map[string]string{"x": "b"}), poolOf("b", map[string]string{"x": "a"})},
			"pools/a: pool.movedTo.x: node x moves in a circle: from pool b it gets back there\npools/b: pool.movedTo.x: node x moves in a circle: from pool a it gets back there"},
		{"moved elsewhere", []*plan.Pool{poolOf("a", map[string]string{"x": "b"}), poolOf("b", nil), poolOf("c", nil, "x")}, "pools/a: pool.movedTo.x: node x moved to pool b, which does not name it: it is in c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 2 {
				if got := fleet.Check(c.pools).Error(); got != c.want {
					t.Fatalf("got  %s\nwant %s", got, c.want)
				}
				slices.Reverse(c.pools)
			}
		})
	}
}
