package outbox

import (
	"fmt"
	"slices"
	"strings"
)

// Directives of a strategic merge patch (k8s.io/apimachinery, strategicpatch).
const (
	patchDirective = "$patch"
	retainKeys     = "$retainKeys"
	elementOrder   = "$setElementOrder/"
	fromPrimitives = "$deleteFromPrimitiveList/"
)

// mergeKeys says which lists of a Node's and a Pod's metadata and status are merged by key, and which key. A list that is not here
// is replaced as a whole. "" merges a list of plain values. The Go types of k8s.io/api say the same in their tags, and a test
// compares: the library that reads those tags would weigh on every idle agent.
var mergeKeys = map[string]map[string]string{
	"nodes": {
		"metadata.ownerReferences": "uid", "metadata.finalizers": "",
		"status.conditions": "type", "status.addresses": "type",
	},
	"pods": {
		"metadata.ownerReferences": "uid", "metadata.finalizers": "",
		"status.conditions": "type", "status.hostIPs": "ip", "status.podIPs": "ip",
		"status.resourceClaimStatuses": "name", "status.nodeAllocatableResourceClaimStatuses": "resourceClaimName",
	},
	"events": {"metadata.ownerReferences": "uid", "metadata.finalizers": ""},
}

// Merge applies a strategic merge patch to an object of a resource, as kube-apiserver does. Both are JSON in Go's maps; object is
// changed and patch is used up.
func Merge(resource string, object, patch map[string]any) (map[string]any, error) {
	m := merger{keys: mergeKeys[resource]}
	return m.maps("", object, patch)
}

type merger struct{ keys map[string]string }

func (m merger) maps(path string, object, patch map[string]any) (map[string]any, error) {
	if directive, ok := patch[patchDirective]; ok {
		switch directive {
		case "replace":
			delete(patch, patchDirective)
			return patch, nil
		case "delete":
			return map[string]any{}, nil
		}
		return nil, fmt.Errorf("merge %s: unknown directive $patch: %v", place(path), directive)
	}
	if err := retain(path, object, patch); err != nil {
		return nil, err
	}
	orders, err := m.shrinkAndOrder(path, object, patch)
	if err != nil {
		return nil, err
	}
	for field, value := range patch {
		if err := m.field(join(path, field), object, field, value); err != nil {
			return nil, err
		}
	}
	for field, order := range orders {
		if list, ok := object[field].([]any); ok {
			object[field] = sorted(list, order.list, order.before, m.keys[join(path, field)])
		}
	}
	return object, nil
}

// ordering is what $setElementOrder says of a list, and how it was before the patch.
type ordering struct{ list, before []any }

// shrinkAndOrder obeys $deleteFromPrimitiveList and takes $setElementOrder off the patch.
func (m merger) shrinkAndOrder(path string, object, patch map[string]any) (map[string]ordering, error) {
	orders := map[string]ordering{}
	for field, value := range patch {
		ordered, isOrder := strings.CutPrefix(field, elementOrder)
		shrunk, isDelete := strings.CutPrefix(field, fromPrimitives)
		if !isOrder && !isDelete {
			continue
		}
		delete(patch, field)
		list, ok := value.([]any)
		if !ok {
			return nil, fmt.Errorf("merge %s: it must be a list", join(path, field))
		}
		if isOrder {
			before, _ := object[ordered].([]any)
			orders[ordered] = ordering{list: list, before: slices.Clone(before)}
			continue
		}
		if have, ok := object[shrunk].([]any); ok {
			object[shrunk] = slices.DeleteFunc(slices.Clone(have), func(v any) bool { return contains(list, v) })
		}
	}
	return orders, nil
}

func (m merger) field(path string, object map[string]any, field string, value any) error {
	if value == nil {
		delete(object, field)
		return nil
	}
	var err error
	switch value := value.(type) {
	case map[string]any:
		have, ok := object[field].(map[string]any)
		if !ok {
			set(object, field, value)
			return nil
		}
		object[field], err = m.maps(path, have, value)
	case []any:
		have, ok := object[field].([]any)
		key, merges := m.keys[path]
		switch {
		case !ok:
			set(object, field, value)
		case !merges:
			object[field] = value
		case key == "":
			object[field] = sorted(union(have, value), value, have, key)
		default:
			object[field], err = m.lists(path, key, have, value)
		}
	default:
		object[field] = value
	}
	return err
}

// retain obeys $retainKeys: what it does not name goes.
func retain(path string, object, patch map[string]any) error {
	value, ok := patch[retainKeys]
	if !ok {
		return nil
	}
	delete(patch, retainKeys)
	list, ok := value.([]any)
	if !ok {
		return fmt.Errorf("merge %s: $retainKeys must be a list", place(path))
	}
	for field := range patch {
		if !contains(list, field) {
			return fmt.Errorf("merge %s: $retainKeys does not name %s, which the patch sets", place(path), field)
		}
	}
	for field := range object {
		if !contains(list, field) {
			delete(object, field)
		}
	}
	return nil
}

// set puts a new value into an object, without directives and without what it only deletes. A directive about an object that is not
// there is for nothing, with all that comes with it: so it is in Kubernetes.
func set(object map[string]any, field string, value any) {
	switch v := value.(type) {
	case map[string]any:
		if v[patchDirective] != nil {
			delete(object, field)
			return
		}
		object[field] = clean(v)
	case []any:
		out := []any{}
		for _, element := range v {
			e, ok := element.(map[string]any)
			if !ok {
				out = append(out, element)
			} else if e[patchDirective] == nil {
				out = append(out, clean(e))
			}
		}
		object[field] = out
	default:
		object[field] = value
	}
}

// clean takes directives and nulls out of a new object.
func clean(object map[string]any) map[string]any {
	for field, value := range object {
		if value == nil || strings.HasPrefix(field, "$") {
			delete(object, field)
			continue
		}
		set(object, field, value)
	}
	return object
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

func place(path string) string {
	if path == "" {
		return "the object"
	}
	return path
}
