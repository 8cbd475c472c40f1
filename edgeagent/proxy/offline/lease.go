package offline

import (
	"crypto/rand"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"sync"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// leases holds the lease of this node, in memory only: it says "now", and nothing that says "now" is worth a write to flash. No
// other lease is answered: whoever holds a lock of the cluster must not be told that it still does.
type leases struct {
	mu   sync.Mutex // guards mine
	mine map[string]any
}

// firstVersion is the resourceVersion of a lease that is made offline: it must be some number, and upstream has never seen the
// lease. The kubelet's first renewal upstream fails with a conflict, and it reads its lease anew.
const firstVersion = "1"

func isNodeLease(req request.Request, node string) bool {
	if (req.Resource != scope.Resource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}) || req.Subresource != "" ||
		req.Namespace != "kube-node-lease" {
		return false
	}
	if req.Verb == "create" {
		return true // the name is in the body
	}
	return req.Name == node && slices.Contains([]string{"get", "update", "patch"}, req.Verb)
}

func (h *Handler) getLease(w http.ResponseWriter, r *http.Request, req request.Request) error {
	h.leases.mu.Lock()
	mine := h.leases.mine
	h.leases.mu.Unlock()
	if mine == nil {
		return notFound(req)
	}
	return h.answerObject(w, r, req, http.StatusOK, mine)
}

// lease takes the node's heartbeat.
func (h *Handler) lease(w http.ResponseWriter, r *http.Request, req request.Request) error {
	h.leases.mu.Lock()
	defer h.leases.mu.Unlock()
	switch {
	case req.Verb == "create" && h.leases.mine != nil:
		return &failure{code: http.StatusConflict, reason: "AlreadyExists", message: fmt.Sprintf("leases.coordination.k8s.io %q already exists", h.cfg.Node)}
	case req.Verb == "patch" && h.leases.mine == nil:
		return notFound(req)
	}
	object, err := h.newLease(w, r, req)
	if err != nil {
		return err
	}
	metadata := child(object, "metadata")
	if name, namespace := metadata["name"], metadata["namespace"]; name != h.cfg.Node || namespace != nil && namespace != req.Namespace {
		return h.unavailable(req, "it is not the lease of this node")
	}
	metadata = maps.Clone(metadata)
	metadata["namespace"] = req.Namespace
	// The version stays what the kubelet had: if upstream gave it, it is still good when the link is back.
	if metadata["resourceVersion"] == nil {
		metadata["resourceVersion"] = firstVersion
	}
	if metadata["uid"] == nil {
		metadata["uid"] = newUID()
	}
	object["metadata"], object["apiVersion"], object["kind"] = metadata, "coordination.k8s.io/v1", "Lease"
	h.leases.mine = object
	code := http.StatusOK
	if req.Verb == "create" {
		code = http.StatusCreated
	}
	return h.answerObject(w, r, req, code, object)
}

// newLease gives the lease as the request has it.
func (h *Handler) newLease(w http.ResponseWriter, r *http.Request, req request.Request) (map[string]any, error) {
	if req.Verb != "patch" {
		_, object, err := readObject(w, r, "coordination.k8s.io/v1", "Lease", maxBody)
		return clean(object), err
	}
	raw, err := readBody(w, r, maxBody)
	if err != nil {
		return nil, err
	}
	patch, err := decodeJSON(raw)
	if err != nil {
		return nil, badRequest("read patch: %v", err)
	}
	object := deepCopy(h.leases.mine)
	switch mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType {
	case "application/merge-patch+json":
		mergePatch(object, patch)
	case "application/strategic-merge-patch+json":
		if object, err = outbox.Merge("leases", object, patch); err != nil {
			return nil, badRequest("%v", err)
		}
	default:
		return nil, unsupportedType(mediaType)
	}
	return clean(object), nil
}

// deepCopy copies objects; lists and values are never changed in place.
func deepCopy(object map[string]any) map[string]any {
	out := maps.Clone(object)
	for field, value := range out {
		if sub, ok := value.(map[string]any); ok {
			out[field] = deepCopy(sub)
		}
	}
	return out
}

// newUID makes a random UUID (version 4).
func newUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
