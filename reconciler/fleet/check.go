package fleet

import (
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// Check checks what spans pools: a node belongs to one pool, and movedTo names a pool that has the node. The pools may
// come in any order.
func Check(pools []*plan.Pool) Problems {
	return check(pools)
}
