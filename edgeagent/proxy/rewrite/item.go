package rewrite

import (
	"bytes"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

const (
	apiNamespace = "default"
	apiService   = "kubernetes"
	apiPort      = "https"
	serviceLabel = "kubernetes.io/service-name"
	rootCA       = "kube-root-ca.crt"
	rootCAKey    = "ca.crt"
)

// inCluster tells whether a caller is one that lives in the cluster: a service account.
func inCluster(caller string) bool { return strings.HasPrefix(caller, "system:serviceaccount:") }

// Mentions tells whether an EndpointSlice or Endpoints may have an endpoint that is the pod of a change.
func Mentions(it scope.Item, c Change) bool {
	return it.Namespace == c.Namespace && bytes.Contains(it.Raw, []byte(c.UID))
}

// Item gives the object as this node sees it, and whether that differs from what it was given. An object that cannot be read
// stays as it is: whoever reads it will say so.
func (r *Rewriter) Item(it scope.Item) (scope.Item, bool) {
	edit := r.editOf(it)
	if edit == nil {
		return it, false
	}
	var raw []byte
	var err error
	if it.Encoding == scope.Protobuf {
		raw, err = edit.protobuf(it.Raw)
	} else {
		raw, err = edit.json(it.Raw)
	}
	if err != nil {
		r.cfg.Log.Warn("rewrite object", "kind", it.Kind, "namespace", it.Namespace, "name", it.Name, "err", err)
		return it, false
	}
	if raw == nil {
		return it, false
	}
	it.Raw, it.Essence = raw, 0
	return it, true
}
