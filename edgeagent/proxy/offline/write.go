package offline

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// write answers what would change something. Few changes mean the same when they happen hours later: those of the kubelet about
// what it knows best. All others are refused: to say yes would be a lie.
func (h *Handler) write(w http.ResponseWriter, r *http.Request, req request.Request, caller Caller) error {
	switch {
	case streamed(req):
		return h.stream(w, r, req, caller)
	case isToken(req):
		return h.token(w, r, req, caller)
	case isReview(req):
		return h.review(w, r, req, caller)
	}
	if !caller.Node {
		return h.unavailable(req, "only upstream can change it")
	}
	switch {
	case isStatus(req, "nodes"), isStatus(req, "pods"):
		return h.status(w, r, req, caller)
	case isNodeLease(req, h.cfg.Node):
		return h.lease(w, r, req)
	case isEvent(req):
		return h.event(w, r, req)
	case core(req, "nodes") && req.Verb == "create":
		return h.register(w, r, req, caller)
	}
	return h.unavailable(req, "only upstream can change it")
}

func core(req request.Request, resource string) bool {
	return req.Resource == scope.Resource{Version: "v1", Resource: resource} && req.Subresource == ""
}

func isStatus(req request.Request, resource string) bool {
	return req.Resource == scope.Resource{Version: "v1", Resource: resource} && req.Subresource == "status" &&
		slices.Contains([]string{"patch", "update"}, req.Verb)
}

// register answers the kubelet that registers its node: it is registered.
func (h *Handler) register(w http.ResponseWriter, r *http.Request, req request.Request, caller Caller) error {
	item, _, err := readObject(w, r, "v1", "Node", maxBody)
	if err != nil {
		return err
	}
	req.Name = item.Name
	found, _, known, err := h.find(scope.Key{Identity: caller.Name, Resource: req.Resource, Name: item.Name})
	switch {
	case err != nil:
		return err
	case !known || found.Name == "":
		return h.unavailable(req, "only upstream can create it")
	}
	return &failure{code: http.StatusConflict, reason: "AlreadyExists", names: true, message: fmt.Sprintf("nodes %q already exists", item.Name)}
}

// status takes a write to the status of this node or of one of its pods: merged on what is known, kept until upstream has it.
func (h *Handler) status(w http.ResponseWriter, r *http.Request, req request.Request, caller Caller) error {
	body, err := readBody(w, r, maxBody)
	if err != nil {
		return err
	}
	ref := outbox.Ref{Resource: req.Resource.Resource, Namespace: req.Namespace, Name: req.Name}
	defer h.cfg.Outbox.Lock(ref)()
	base, read, known, err := h.find(scope.Key{Identity: caller.Name, Resource: req.Resource, Namespace: req.Namespace, Name: req.Name})
	switch {
	case err != nil:
		return err
	case !known:
		return h.uncached(req, caller)
	case base.Name == "":
		return notFound(req)
	}
	now, err := h.seenBy(caller, req.Resource).see(base)
	if err != nil {
		return err
	}
	change, err := h.change(r, req, base, now, body)
	if err != nil {
		return err
	}
	if !change.same && r.URL.Query().Get("dryRun") == "" {
		if ref.Resource == "pods" {
			// Where the pod is is true whether it can be kept or not, and Services wait for it.
			h.address(base, change.object)
		}
		s := outbox.Status{Ref: ref, UID: base.UID, Patch: change.patch}
		if err := h.cfg.Outbox.Put(r.Context(), s, change.durable); err != nil {
			return h.notKept(req, err)
		}
	}
	h.age(w, read)
	return h.one(w, r, req, http.StatusOK, change.item)
}

// notKept is for a write that could not be made durable: the writer must try again.
func (h *Handler) notKept(req request.Request, err error) error {
	h.cfg.Log.Error("keep what was written offline", "path", req.Path, "err", err)
	return h.unavailable(req, "it cannot be kept: "+err.Error())
}

// Hold keeps a status that goes upstream apart from the replay of an older one.
func (h *Handler) Hold(req request.Request, caller Caller) (done func(code int)) {
	if !caller.Node || !isStatus(req, "nodes") && !isStatus(req, "pods") {
		return func(int) {}
	}
	ref := outbox.Ref{Resource: req.Resource.Resource, Namespace: req.Namespace, Name: req.Name}
	unlock := h.cfg.Outbox.Lock(ref)
	return func(code int) {
		if code >= 200 && code < 300 {
			h.cfg.Outbox.Superseded(ref)
		}
		unlock()
	}
}
