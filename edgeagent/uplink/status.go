package uplink

import (
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// Bounds of the CRD: a longer message or list would have the whole report refused.
const (
	maxMessage    = 32768
	maxConditions = 32
)

// status is EdgeNode.status as the node writes it: package reconciler/hub/api/v1alpha1 has the schema.
type status struct {
	Revision     string            `json:"revision,omitempty"`
	PlanDigest   string            `json:"planDigest,omitempty"`
	Pool         string            `json:"pool,omitempty"`
	AgentVersion string            `json:"agentVersion,omitempty"`
	Conditions   []statusCondition `json:"conditions,omitempty"`
}

// statusCondition is a metav1.Condition, which must have a message and a transition time.
type statusCondition struct {
	Type               string           `json:"type"`
	Status             condition.Status `json:"status"`
	Reason             string           `json:"reason"`
	Message            string           `json:"message"`
	LastTransitionTime time.Time        `json:"lastTransitionTime"`
}

func statusOf(r condition.Report) status {
	s := status{Revision: r.Revision, PlanDigest: r.PlanDigest, Pool: r.Pool, AgentVersion: r.AgentVersion}
	for _, c := range r.Conditions[:min(len(r.Conditions), maxConditions)] {
		s.Conditions = append(s.Conditions, statusCondition{
			Type: c.Type, Status: c.Status, Reason: c.Reason, Message: clip(c.Message), LastTransitionTime: c.LastTransitionTime,
		})
	}
	return s
}

func clip(message string) string {
	message = strings.ToValidUTF8(message, "�")
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage-3], "") + "…"
}
