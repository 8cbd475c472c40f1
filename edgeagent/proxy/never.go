package proxy

import (
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// never is the resources that are not kept, as "resource" or "resource.group".
type never map[string]bool

func newNever(names []string) *never {
	// An event is of no use to a node that reads it later; a lease lives for seconds, and package offline keeps its own.
	n := never{"events": true, "events.events.k8s.io": true, "leases.coordination.k8s.io": true}
	for _, name := range names {
		n[strings.ToLower(strings.TrimSpace(name))] = true
	}
	return &n
}

func (n never) has(r scope.Resource) bool {
	if r.Group == "" {
		return n[r.Resource]
	}
	return n[r.Resource+"."+r.Group]
}

// keeps tells whether answers about a resource are kept.
func (s *Server) keeps(r scope.Resource) bool { return !s.settings.Load().has(r) }
