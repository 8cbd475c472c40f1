package offline

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// maxEvent bounds one event. A thousand are kept.
const maxEvent = 16 << 10

func isEvent(req request.Request) bool {
	r := req.Resource
	core := r == scope.Resource{Version: "v1", Resource: "events"}
	return (core || r == scope.Resource{Group: "events.k8s.io", Version: "v1", Resource: "events"}) &&
		req.Subresource == "" && req.Namespace != "" && (req.Verb == "create" || req.Verb == "patch")
}

// event keeps an event of the kubelet's, or how often one has happened by now.
func (h *Handler) event(w http.ResponseWriter, r *http.Request, req request.Request) error {
	path := "/api/v1/namespaces/" + req.Namespace + "/events"
	if req.Resource.Group != "" {
		path = "/apis/" + req.Resource.GroupVersion() + "/namespaces/" + req.Namespace + "/events"
	}
	code := http.StatusOK
	var event map[string]any
	var err error
	if req.Verb == "create" {
		code = http.StatusCreated
		event, err = h.newEvent(w, r, req)
	} else {
		event, err = h.patchedEvent(w, r, req, path)
	}
	if err != nil {
		return err
	}
	name := text(event, "metadata", "name")
	raw, err := json.Marshal(event)
	switch {
	case err != nil:
		return fmt.Errorf("write event: %w", err)
	case len(raw) > maxEvent:
		return &failure{code: http.StatusRequestEntityTooLarge, reason: "RequestEntityTooLarge",
			message: fmt.Sprintf("holdfast: offline, and an event of more than %d bytes is not kept", maxEvent)}
	}
	if err := h.cfg.Outbox.PutEvent(r.Context(), name, outbox.Event{Path: path, Object: raw}); err != nil {
		return h.notKept(req, err)
	}
	return h.answerObject(w, r, req, code, event)
}

func (h *Handler) newEvent(w http.ResponseWriter, r *http.Request, req request.Request) (map[string]any, error) {
	_, event, err := readObject(w, r, req.Resource.GroupVersion(), "Event", maxBody)
	if err != nil {
		return nil, err
	}
	event = clean(event)
	event["apiVersion"], event["kind"] = req.Resource.GroupVersion(), "Event"
	metadata := child(event, "metadata")
	if namespace := metadata["namespace"]; namespace != nil && namespace != req.Namespace {
		return nil, badRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	metadata["namespace"] = req.Namespace
	if text(metadata, "name") == "" {
		prefix := text(metadata, "generateName")
		if prefix == "" {
			return nil, badRequest("the event has neither name nor generateName")
		}
		metadata["name"] = prefix + strconv.FormatInt(h.cfg.Now().UnixNano(), 36)
	}
	event["metadata"] = metadata
	return event, nil
}

// patchedEvent gives an event that was posted while offline, patched. One that upstream has is not here: the kubelet then posts
// it again.
func (h *Handler) patchedEvent(w http.ResponseWriter, r *http.Request, req request.Request, path string) (map[string]any, error) {
	raw, err := readBody(w, r, maxBody)
	if err != nil {
		return nil, err
	}
	patch, err := decodeJSON(raw)
	if err != nil {
		return nil, badRequest("read patch: %v", err)
	}
	kept, ok, err := h.cfg.Outbox.Event(path, req.Name)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound(req)
	}
	event, err := decodeJSON(kept.Object)
	if err != nil {
		return nil, err
	}
	switch mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType {
	case "application/strategic-merge-patch+json":
		if event, err = outbox.Merge("events", event, patch); err != nil {
			return nil, badRequest("%v", err)
		}
	case "application/merge-patch+json":
		mergePatch(event, patch)
	default:
		return nil, unsupportedType(mediaType)
	}
	if text(event, "metadata", "name") != req.Name {
		return nil, badRequest("an event's name cannot be changed")
	}
	return clean(event), nil
}
