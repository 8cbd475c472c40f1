// Package rewrite is what this node sees differently from the cluster, so that programs on it reach the proxy without being
// changed: where the API server is, which authority vouches for it, and, while the node is cut off, where its pods are.
// Nothing else of an object changes, and its resourceVersion never does.
package rewrite

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Config says what a Rewriter puts where.
type Config struct {
	// Node is the name of this node.
	Node string
	// CA is the certificate, as PEM, that vouches for the proxy: Authority.CA. Without one kube-root-ca.crt stays as it is.
	CA []byte
	// Address is where pods reach the proxy. If it is not valid, where the API server is stays as it is.
	Address netip.AddrPort
	Log     *slog.Logger
}

// Pod is where one of this node's pods is, as the kubelet says.
type Pod struct {
	UID, Namespace, Name string
	// IPs are the pod's addresses, none if it has none now.
	IPs []string
	// Ready is the pod's condition Ready.
	Ready bool
}

// Change says that the EndpointSlices which mention a pod look different now.
type Change struct{ UID, Namespace, Name string }

// Rewriter rewrites objects for this node's callers. It is safe for concurrent use.
type Rewriter struct {
	cfg Config

	mu      sync.RWMutex // guards what follows
	pods    map[string]Pod
	watcher map[int]func(Change)
	next    int
}

// New gives a Rewriter with an empty overlay.
func New(cfg Config) *Rewriter {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Rewriter{cfg: cfg, pods: map[string]Pod{}, watcher: map[int]func(Change){}}
}

// PodAddresses tells, while the node is cut off, where one of its pods is now. The overlay holds until Clear.
func (r *Rewriter) PodAddresses(p Pod) {
	p.IPs = slices.Clone(p.IPs)
	r.mu.Lock()
	old, ok := r.pods[p.UID]
	same := ok && old.Ready == p.Ready && slices.Equal(old.IPs, p.IPs)
	r.pods[p.UID] = p
	watchers := r.watchers()
	r.mu.Unlock()
	if same {
		return
	}
	for _, tell := range watchers {
		tell(Change{UID: p.UID, Namespace: p.Namespace, Name: p.Name})
	}
}

// Clear ends the overlay: the node is connected, and what upstream says holds again. Nobody is told: watches that were
// answered offline end anyway, and their clients go on upstream.
func (r *Rewriter) Clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.pods)
}

// Subscribe has tell called, quickly and without calling back, for each change of the overlay until the function it gives is
// called. A watch that is served offline looks through its scope with Mentions and sends DELETED and ADDED for each slice that
// it finds: informers drop a MODIFIED whose resourceVersion did not change.
func (r *Rewriter) Subscribe(tell func(Change)) (cancel func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.next
	r.next++
	r.watcher[id] = tell
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watcher, id)
	}
}

func (r *Rewriter) watchers() []func(Change) {
	out := make([]func(Change), 0, len(r.watcher))
	for _, tell := range r.watcher {
		out = append(out, tell)
	}
	return out
}

// Wants tells whether objects of a resource may look different to a caller (identity.Caller.Name): endpoints to the node and to
// service accounts (kube-proxy and CoreDNS are), the cluster's authority to the node alone, which gives it to pods. All other answers need
// not be looked at.
func (r *Rewriter) Wants(res scope.Resource, caller string) bool {
	node := caller == "system:node:"+r.cfg.Node
	switch {
	case res.Group == "discovery.k8s.io" && res.Resource == "endpointslices", res.Group == "" && res.Resource == "endpoints":
		return node || inCluster(caller)
	case res.Group == "" && res.Resource == "configmaps":
		return node && len(r.cfg.CA) > 0
	}
	return false
}
