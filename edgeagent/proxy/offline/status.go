package offline

import (
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"reflect"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/media"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// change is what a write makes of an object.
type change struct {
	object map[string]any
	item   scope.Item
	patch  []byte // what differs from upstream's object
	// same: nothing differs from what was known. durable: something does that must outlive a power cut.
	same, durable bool
}

// change applies a write to an object: base is upstream's, now the same with what was written here before.
func (h *Handler) change(r *http.Request, req request.Request, base, now scope.Item, body []byte) (change, error) {
	known, err := decodeClean(base)
	if err != nil {
		return change{}, err
	}
	before, err := decodeClean(now)
	if err != nil {
		return change{}, err
	}
	if req.Resource.Resource == "pods" && text(known, "spec", "nodeName") != h.cfg.Node {
		return change{}, h.unavailable(req, "the pod is not on this node")
	}
	final, err := h.apply(r, req, now, body)
	if err != nil {
		return change{}, err
	}
	if err := h.settle(req, known, before, final); err != nil {
		return change{}, err
	}
	c := change{object: final, same: reflect.DeepEqual(before, final)}
	resource := req.Resource.Resource
	patch := outbox.Diff(resource, known, final)
	if patch == nil {
		patch = map[string]any{}
	}
	if c.patch, err = json.Marshal(patch); err != nil {
		return change{}, fmt.Errorf("write patch: %w", err)
	}
	c.durable = !outbox.Only(resource, before, outbox.Diff(resource, before, final))
	if err := wellFormed(base, final); err != nil {
		return change{}, err
	}
	_, metadata := patch["metadata"]
	c.item, err = encodeItem(base, final, metadata)
	return c, err
}

// wellFormed refuses what Kubernetes' types cannot hold: kept, it could be neither shown nor replayed.
func wellFormed(base scope.Item, final map[string]any) error {
	raw, err := json.Marshal(final)
	if err != nil {
		return fmt.Errorf("write object: %w", err)
	}
	item := base
	item.Raw, item.Encoding = raw, scope.JSON
	if _, err := media.Convert(item, scope.Protobuf); err != nil {
		return badRequest("%v", err)
	}
	return nil
}

// apply gives what the write asks for.
func (h *Handler) apply(r *http.Request, req request.Request, now scope.Item, body []byte) (map[string]any, error) {
	object, err := decodeClean(now)
	if err != nil {
		return nil, err
	}
	if req.Verb == "update" {
		return replacement(r, req, now, object, body)
	}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, unsupportedType(r.Header.Get("Content-Type"))
	}
	switch mediaType {
	case "application/strategic-merge-patch+json":
		patch, err := decodeJSON(body)
		if err != nil {
			return nil, badRequest("read patch: %v", err)
		}
		if object, err = outbox.Merge(req.Resource.Resource, object, patch); err != nil {
			return nil, badRequest("%v", err)
		}
	case "application/merge-patch+json":
		patch, err := decodeJSON(body)
		if err != nil {
			return nil, badRequest("read patch: %v", err)
		}
		mergePatch(object, patch)
	case "application/json-patch+json":
		if object, err = jsonPatch(object, body); err != nil {
			return nil, err
		}
	case "application/apply-patch+yaml", "application/apply-patch+cbor":
		return nil, h.unavailable(req, "server-side apply needs the managed fields that only upstream has")
	default:
		return nil, unsupportedType(mediaType)
	}
	return clean(object), nil
}

// settle keeps what a write to a status cannot change as it is, as kube-apiserver does, and refuses what it would refuse. Metadata
// beyond a node's labels and annotations would have to be promised to be kept, and is not: that is refused, too.
func (h *Handler) settle(req request.Request, known, before, final map[string]any) error {
	for _, field := range []string{"metadata", "status"} {
		if _, ok := final[field].(map[string]any); !ok && final[field] != nil {
			return badRequest("cannot unmarshal %s: it must be an object", field)
		}
	}
	was, is := child(before, "metadata"), child(final, "metadata")
	for _, field := range []string{"name", "namespace"} {
		if was[field] != is[field] {
			return badRequest("the %s of the object (%v) does not match the %s on the URL (%v)", field, is[field], field, was[field])
		}
	}
	if was["uid"] != is["uid"] {
		kind := map[string]string{"nodes": "Node", "pods": "Pod"}[req.Resource.Resource]
		return &failure{code: http.StatusUnprocessableEntity, reason: "Invalid", names: true,
			message: fmt.Sprintf("%s %q is invalid: metadata.uid: Invalid value: %q: field is immutable", kind, req.Name, is["uid"])}
	}
	if was["resourceVersion"] != is["resourceVersion"] {
		return conflict(req, "the object has been modified; please apply your changes to the latest version and try again")
	}
	metadata := maps.Clone(was)
	for _, field := range []string{"labels", "annotations"} {
		if reflect.DeepEqual(was[field], is[field]) {
			continue
		}
		if req.Resource.Resource != "nodes" {
			return h.unavailable(req, "only the status can be written, not "+field)
		}
		metadata[field] = is[field]
		if is[field] == nil {
			delete(metadata, field)
		}
	}
	if !reflect.DeepEqual(was["finalizers"], is["finalizers"]) {
		return h.unavailable(req, "only the status can be written, not finalizers")
	}
	final["metadata"], final["spec"] = metadata, known["spec"]
	if known["spec"] == nil {
		delete(final, "spec")
	}
	status := child(final, "status")
	if qos := child(known, "status")["qosClass"]; qos != nil && status["qosClass"] == nil {
		status["qosClass"] = qos
		final["status"] = status
	}
	return nil
}
