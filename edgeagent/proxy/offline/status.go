package offline

import (
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"reflect"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/rewrite"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// maxPatchOperations bounds a JSON patch: kube-apiserver's figure.
const maxPatchOperations = 10000

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
	_, metadata := patch["metadata"]
	c.item, err = encodeItem(base, final, metadata)
	return c, err
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

// replacement reads the body of a PUT. Of the status endpoint it is the status that counts.
func replacement(r *http.Request, req request.Request, now scope.Item, object map[string]any, body []byte) (map[string]any, error) {
	item, err := objectOf(r.Header.Get("Content-Type"), body, now.APIVersion, now.Kind)
	if err != nil {
		return nil, err
	}
	if item.UID != "" && item.UID != now.UID {
		return nil, conflict(req, fmt.Sprintf("Precondition failed: UID in precondition: %s, UID in object meta: %s", item.UID, now.UID))
	}
	put, err := decodeClean(item)
	if err != nil {
		return nil, badRequest("read body: %v", err)
	}
	object["status"] = put["status"]
	metadata, written := child(object, "metadata"), child(put, "metadata")
	for _, field := range []string{"name", "namespace", "resourceVersion", "labels", "annotations"} {
		if value, ok := written[field]; ok {
			metadata[field] = value
		} else if field == "labels" || field == "annotations" {
			delete(metadata, field)
		}
	}
	return clean(object), nil
}

// mergePatch applies a JSON merge patch (RFC 7386).
func mergePatch(object, patch map[string]any) {
	for field, value := range patch {
		if value == nil {
			delete(object, field)
			continue
		}
		sub, ok := value.(map[string]any)
		if !ok {
			object[field] = value
			continue
		}
		have, ok := object[field].(map[string]any)
		if !ok {
			have = map[string]any{}
			object[field] = have
		}
		mergePatch(have, sub)
	}
}

func jsonPatch(object map[string]any, body []byte) (map[string]any, error) {
	patch, err := jsonpatch.DecodePatch(body)
	if err != nil {
		return nil, badRequest("read patch: %v", err)
	}
	if len(patch) > maxPatchOperations {
		return nil, &failure{code: http.StatusRequestEntityTooLarge, reason: "RequestEntityTooLarge",
			message: fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxPatchOperations, len(patch))}
	}
	raw, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	if raw, err = patch.Apply(raw); err != nil {
		return nil, &failure{code: http.StatusUnprocessableEntity, reason: "Invalid", message: fmt.Sprintf("the server rejected our request due to an error in our request: %v", err)}
	}
	return decodeJSON(raw)
}

// settle keeps what a write to a status cannot change as it is, as kube-apiserver does, and refuses what it would refuse. Metadata
// beyond a node's labels and annotations would have to be promised to be kept, and is not: that is refused, too.
func (h *Handler) settle(req request.Request, known, before, final map[string]any) error {
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

// address tells where a pod of this node is now, so that Services on the node find it.
func (h *Handler) address(pod scope.Item, object map[string]any) {
	if h.cfg.Rewriter == nil {
		return
	}
	status := child(object, "status")
	where := rewrite.Pod{UID: pod.UID, Namespace: pod.Namespace, Name: pod.Name}
	ips, _ := status["podIPs"].([]any)
	for _, ip := range ips {
		if address, _ := ip.(map[string]any)["ip"].(string); address != "" {
			where.IPs = append(where.IPs, address)
		}
	}
	if one, _ := status["podIP"].(string); len(where.IPs) == 0 && one != "" {
		where.IPs = []string{one}
	}
	conditions, _ := status["conditions"].([]any)
	for _, c := range conditions {
		if condition, _ := c.(map[string]any); condition["type"] == "Ready" {
			where.Ready = condition["status"] == "True"
		}
	}
	h.cfg.Rewriter.PodAddresses(where)
}

// restoreAddresses tells where the pods are, from what was written before the agent started again. It does so once each time the
// link goes down, when somebody first asks.
func (h *Handler) restoreAddresses() {
	select {
	case <-h.back():
		return // upstream's own word counts; somebody only tries what would be answered
	default:
	}
	if h.restored.Swap(true) {
		return
	}
	written, _ := h.cfg.Outbox.Statuses(0)
	for _, s := range written {
		if s.Resource != "pods" {
			continue
		}
		pod, _, _, err := h.find(scope.Key{Identity: h.node(), Resource: scope.Resource{Version: "v1", Resource: "pods"}, Namespace: s.Namespace, Name: s.Name})
		if err != nil || pod.UID != s.UID {
			continue
		}
		object, err := merged(pod, s)
		if err != nil {
			h.cfg.Log.Warn("find pod's address", "namespace", s.Namespace, "name", s.Name, "err", err)
			continue
		}
		h.address(pod, object)
	}
}

// decodeClean gives an object as Go's maps, without fields that are null: absent means the same.
func decodeClean(item scope.Item) (map[string]any, error) {
	object, err := decodeItem(item)
	return clean(object), err
}

func clean(object map[string]any) map[string]any {
	maps.DeleteFunc(object, func(_ string, value any) bool { return value == nil })
	for _, value := range object {
		cleanValue(value)
	}
	return object
}

func cleanValue(value any) {
	switch value := value.(type) {
	case map[string]any:
		clean(value)
	case []any:
		for _, element := range value {
			cleanValue(element)
		}
	}
}

// child gives an object inside an object. It is never nil, but what is set in a new one is lost.
func child(object map[string]any, field string) map[string]any {
	if sub, ok := object[field].(map[string]any); ok {
		return sub
	}
	return map[string]any{}
}

func text(object map[string]any, path ...string) string {
	for _, field := range path[:len(path)-1] {
		object = child(object, field)
	}
	s, _ := object[path[len(path)-1]].(string)
	return s
}
