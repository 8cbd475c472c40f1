// Package condition holds what came of reconciling, as plain data: conditions with stable reasons, and reports. It is a
// leaf, so that domains, agent and hub can share it.
package condition

import (
	"slices"
	"time"
)

// Status is a condition's status, in Kubernetes' words.
type Status string

// The three statuses.
const (
	True    Status = "True"
	False   Status = "False"
	Unknown Status = "Unknown"
)

// Condition is one aspect of a node's state, as in Kubernetes' metav1.Condition.
type Condition struct {
	// Type names the aspect, in CamelCase: see the Type constants.
	Type   string `json:"type"`
	Status Status `json:"status"`
	// Reason is stable and documented: see the Reason constants and docs/reasons.md.
	Reason string `json:"reason"`
	// Message is for people: what is wrong, where, and what to do.
	Message string `json:"message,omitempty"`
	// LastTransitionTime is when Status last changed, by the node's clock, to the second.
	LastTransitionTime time.Time `json:"lastTransitionTime,omitzero"`
}

// Report is what came of one node's plan: the latest word of every part.
type Report struct {
	Node string `json:"node"`
	Pool string `json:"pool,omitempty"`
	// Revision is the last accepted revision, as 40 hex digits.
	Revision string `json:"revision,omitempty"`
	// PlanDigest is the digest of the plan in force.
	PlanDigest string `json:"planDigest,omitempty"`
	// AgentVersion is the agent's version.
	AgentVersion string      `json:"agentVersion,omitempty"`
	Conditions   []Condition `json:"conditions,omitempty"`
}

// Set puts c into list, sorted by type, and gives the new list. LastTransitionTime is now if the status changed, else
// what it was. The given list is not changed.
func Set(list []Condition, c Condition, now time.Time) []Condition {
	out := slices.Clone(list)
	i, found := slices.BinarySearchFunc(out, c.Type, func(a Condition, t string) int {
		switch {
		case a.Type < t:
			return -1
		case a.Type > t:
			return 1
		}
		return 0
	})
	c.LastTransitionTime = now.UTC().Truncate(time.Second)
	if !found {
		return slices.Insert(out, i, c)
	}
	if out[i].Status == c.Status {
		c.LastTransitionTime = out[i].LastTransitionTime
	}
	out[i] = c
	return out
}

// Get gives the condition of that type, and whether there is one.
func Get(list []Condition, typ string) (Condition, bool) {
	for _, c := range list {
		if c.Type == typ {
			return c, true
		}
	}
	return Condition{}, false
}
