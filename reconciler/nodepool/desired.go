package nodepool

import (
	"maps"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// Marks are labels and annotations of a Node.
type Marks struct {
	Labels      map[string]string
	Annotations map[string]string
}

// Desired gives the marks of its own Node that the node sets: those of the plan that Kubernetes' NodeRestriction and
// Holdfast's admission policies leave to it. The hub sets the others.
func Desired(want plan.Node) Marks {
	m := Marks{Labels: maps.Clone(want.Labels), Annotations: maps.Clone(want.Annotations)}
	maps.DeleteFunc(m.Labels, func(key, _ string) bool { return !plan.NodeMaySet(key) })
	maps.DeleteFunc(m.Annotations, func(key, _ string) bool { return plan.Reserved(key) })
	return m
}
