package offline

import (
	"encoding/json"
	"fmt"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// maxPatchOperations bounds a JSON patch: kube-apiserver's figure.
const maxPatchOperations = 10000

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
	if object, err = decodeJSON(raw); err != nil {
		return nil, badRequest("apply patch: %v", err)
	}
	return object, nil
}
