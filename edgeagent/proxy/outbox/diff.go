package outbox

import (
	"maps"
	"reflect"
	"slices"
)

// written says which metadata a write to the status may change: the node status carries labels and annotations (the kubelet
// keeps its labels that way), the pod status carries none.
var written = map[string][]string{"nodes": {"labels", "annotations"}, "pods": nil}

// optional are the fields of conditions that may be absent: a complete condition says so, or what upstream has by then would
// shine through.
var optional = map[string][]string{
	"nodes": {"lastHeartbeatTime", "lastTransitionTime", "reason", "message"},
	"pods":  {"observedGeneration", "lastProbeTime", "lastTransitionTime", "reason", "message"},
}

// Diff gives a strategic merge patch that makes an object's status, on whatever upstream holds by then, what it is in final: each
// field and condition that differs from base is there as a whole. It is nil if nothing differs.
func Diff(resource string, base, final map[string]any) map[string]any {
	patch := map[string]any{}
	if status := diffStatus(resource, object(base, "status"), object(final, "status")); len(status) > 0 {
		patch["status"] = status
	}
	metadata := map[string]any{}
	for _, field := range written[resource] {
		if change := diffText(object(object(base, "metadata"), field), object(object(final, "metadata"), field)); len(change) > 0 {
			metadata[field] = change
		}
	}
	if len(metadata) > 0 {
		patch["metadata"] = metadata
	}
	if len(patch) == 0 {
		return nil
	}
	return patch
}

func diffStatus(resource string, base, final map[string]any) map[string]any {
	patch := map[string]any{}
	for field := range base {
		if _, ok := final[field]; !ok {
			patch[field] = nil
		}
	}
	for field, value := range final {
		if reflect.DeepEqual(base[field], value) {
			continue
		}
		key, merges := mergeKeys[resource]["status."+field]
		switch value := value.(type) {
		case map[string]any:
			patch[field] = whole(object(base, field), value)
		case []any:
			switch {
			case field == "conditions":
				before, _ := base[field].([]any)
				patch[field] = diffConditions(resource, before, value)
			case merges && key != "":
				patch[field] = append(slices.Clone(value), map[string]any{patchDirective: "replace"})
			default:
				patch[field] = value
			}
		default:
			patch[field] = value
		}
	}
	return patch
}

// whole gives all of an object, and takes away what it does not have any more. ($patch: replace would do so more simply, but not if
// upstream has lost the object.)
func whole(base, final map[string]any) map[string]any {
	out := map[string]any{}
	for field := range base {
		if _, ok := final[field]; !ok {
			out[field] = nil
		}
	}
	for field, value := range final {
		if sub, ok := value.(map[string]any); ok {
			value = whole(object(base, field), sub)
		}
		out[field] = value
	}
	return out
}

func diffConditions(resource string, base, final []any) []any {
	patch := []any{}
	for _, c := range final {
		condition, ok := c.(map[string]any)
		if !ok || slices.ContainsFunc(base, func(b any) bool { return reflect.DeepEqual(b, c) }) {
			continue
		}
		complete := maps.Clone(condition)
		for _, field := range optional[resource] {
			if _, ok := complete[field]; !ok {
				complete[field] = nil
			}
		}
		patch = append(patch, complete)
	}
	for _, b := range base {
		kind := identity(b, "type")
		if !slices.ContainsFunc(final, func(c any) bool { return identity(c, "type") == kind }) {
			patch = append(patch, map[string]any{patchDirective: "delete", "type": kind})
		}
	}
	return patch
}

// diffText compares maps of strings.
func diffText(base, final map[string]any) map[string]any {
	patch := map[string]any{}
	for key := range base {
		if _, ok := final[key]; !ok {
			patch[key] = nil
		}
	}
	for key, value := range final {
		if base[key] != value {
			patch[key] = value
		}
	}
	return patch
}

// Only tells whether a patch made by Diff changes nothing but when heartbeats were last seen. Such a change need not outlive a
// power cut: the next heartbeat says the same.
func Only(resource string, base, patch map[string]any) bool {
	if len(patch) != 1 || resource != "nodes" {
		return len(patch) == 0
	}
	status := object(patch, "status")
	conditions, ok := status["conditions"].([]any)
	if !ok || len(status) != 1 {
		return false
	}
	before, _ := object(base, "status")["conditions"].([]any)
	for _, c := range conditions {
		condition, _ := c.(map[string]any)
		i := slices.IndexFunc(before, func(b any) bool { return identity(b, "type") == identity(condition, "type") })
		if i < 0 || condition[patchDirective] != nil || !reflect.DeepEqual(quiet(before[i]), quiet(condition)) {
			return false
		}
	}
	return true
}

// quiet gives a condition without its heartbeat and without what it does not have.
func quiet(condition any) map[string]any {
	c, _ := condition.(map[string]any)
	out := maps.Clone(c)
	delete(out, "lastHeartbeatTime")
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == nil })
	return out
}

func object(in map[string]any, field string) map[string]any {
	out, _ := in[field].(map[string]any)
	return out
}
