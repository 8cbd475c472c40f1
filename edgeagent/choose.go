package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// noPlan says why an accepted revision gives this node no plan.
type noPlan struct {
	reason string
	err    error
}

func (e *noPlan) Error() string        { return e.err.Error() }
func (e *noPlan) Unwrap() error        { return e.err }
func (e *noPlan) StableReason() string { return e.reason }

func nothing(reason, format string, args ...any) error {
	return &noPlan{reason, fmt.Errorf(format, args...)}
}

// pools is what choosing a plan needs of a Follower.
type pools interface {
	Pools(ctx context.Context, commit string) ([]string, error)
	Pool(ctx context.Context, commit, pool string) (*plan.Pool, error)
}

// choose gives the plan that a revision has for a node, which was in that pool so far; "" means that it is to be found.
// A pool that the node left may say where to: that is followed.
func choose(ctx context.Context, f pools, commit, node, pool string) (*plan.Node, error) {
	if pool == "" {
		return find(ctx, f, commit, node)
	}
	way := []string{pool}
	for {
		p, err := f.Pool(ctx, commit, pool)
		if err != nil {
			return nil, fmt.Errorf("pool %s: %w", strings.Join(way, " → "), err)
		}
		if n := p.Node(node); n != nil {
			return n, nil
		}
		next, moved := p.MovedTo[node]
		if !moved {
			return nil, nothing(condition.ReasonNodeAbsent, "pool %s does not name node %s; if it moved, name its new pool in movedTo; the plan in force stays", strings.Join(way, " → "), node)
		}
		if slices.Contains(way, next) {
			return nil, nothing(condition.ReasonNodeAbsent, "movedTo of node %s goes in a circle: %s → %s; the plan in force stays", node, strings.Join(way, " → "), next)
		}
		way = append(way, next)
		pool = next
	}
}

// find looks through all pools for the one that names the node. It is needed once, when none was named at enrolment.
func find(ctx context.Context, f pools, commit, node string) (*plan.Node, error) {
	names, err := f.Pools(ctx, commit)
	if err != nil {
		return nil, err
	}
	var found *plan.Node
	var naming []string // the pools that name the node
	var broken []error
	for _, name := range names {
		p, err := f.Pool(ctx, commit, name)
		if err != nil {
			if reconciler.Reason(err) != condition.ReasonInvalidFleet {
				return nil, fmt.Errorf("pool %s: %w", name, err)
			}
			broken = append(broken, fmt.Errorf("pool %s: %w", name, err))
			continue
		}
		if n := p.Node(node); n != nil {
			found, naming = n, append(naming, name)
		}
	}
	switch {
	case len(naming) > 1: // whoever may change one of them must not be able to have the node
		return nil, nothing(condition.ReasonDuplicateNode, "pools %s name node %s, which was enrolled without a pool: name it in one of them only, or say which is right by enrolling again, as before and with --pool (holdfast-agent enroll … --pool %s)",
			strings.Join(naming, " and "), node, naming[0])
	case found != nil:
		return found, nil
	case len(broken) > 0:
		return nil, errors.Join(broken...)
	}
	return nil, nothing(condition.ReasonNodeAbsent, "none of the %d pools names node %s", len(names), node)
}
