package offline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/media"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// view shows objects as they are now on this node: with the statuses that wait in the outbox, and as package rewrite has them.
type view struct {
	h        *Handler
	statuses string // "nodes", "pods" or ""
	rewrites bool
}

func (h *Handler) seenBy(caller Caller, r scope.Resource) view {
	v := view{h: h, rewrites: h.cfg.Rewriter != nil && h.cfg.Rewriter.Wants(r, caller.Name)}
	if v.rewrites {
		h.restoreAddresses()
	}
	if r.Group == "" && r.Version == "v1" && (r.Resource == "nodes" || r.Resource == "pods") {
		v.statuses = r.Resource
	}
	return v
}

func (v view) see(item scope.Item) (scope.Item, error) {
	if v.rewrites {
		item, _ = v.h.cfg.Rewriter.Item(item)
	}
	if v.statuses == "" {
		return item, nil
	}
	s, ok := v.h.cfg.Outbox.Status(outbox.Ref{Resource: v.statuses, Namespace: item.Namespace, Name: item.Name})
	if !ok || s.UID != item.UID {
		return item, nil
	}
	return v.h.merged.merge(item, s)
}

// mergedCache keeps the last few merged objects: the kubelet reads its node again and again.
type mergedCache struct {
	mu   sync.Mutex // guards last
	last [8]mergedItem
	next int
}

type mergedItem struct {
	ref     outbox.Ref
	change  uint64
	version string
	item    scope.Item
}

func (c *mergedCache) merge(item scope.Item, s outbox.Status) (scope.Item, error) {
	c.mu.Lock()
	for i := range c.last {
		if m := &c.last[i]; m.change == s.Change && m.ref == s.Ref && m.version == item.Version && m.item.Encoding == item.Encoding {
			defer c.mu.Unlock()
			return m.item, nil
		}
	}
	c.mu.Unlock()
	merged, err := mergeStatus(item, s)
	if err != nil {
		return scope.Item{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last[c.next] = mergedItem{ref: s.Ref, change: s.Change, version: item.Version, item: merged}
	c.next = (c.next + 1) % len(c.last)
	return merged, nil
}

// mergeStatus gives an object with a status that waits.
func mergeStatus(item scope.Item, s outbox.Status) (scope.Item, error) {
	object, err := merged(item, s)
	if err != nil {
		return scope.Item{}, err
	}
	return encodeItem(item, object, s.Resource == "nodes")
}

// merged is mergeStatus in Go's maps.
func merged(item scope.Item, s outbox.Status) (map[string]any, error) {
	object, err := decodeItem(item)
	if err != nil {
		return nil, err
	}
	patch, err := decodeJSON(s.Patch)
	if err != nil {
		return nil, fmt.Errorf("merge status of %s: %w", s.Ref, err)
	}
	if object, err = outbox.Merge(s.Resource, object, patch); err != nil {
		return nil, fmt.Errorf("merge status of %s: %w", s.Ref, err)
	}
	return object, nil
}

// decodeItem gives an object as Go's maps.
func decodeItem(item scope.Item) (map[string]any, error) {
	text, err := media.Convert(item, scope.JSON)
	if err != nil {
		return nil, err
	}
	object, err := decodeJSON(text.Raw)
	if err != nil {
		return nil, fmt.Errorf("read %s %s/%s: %w", item.Kind, item.Namespace, item.Name, err)
	}
	return object, nil
}

// decodeJSON keeps numbers as they were written.
func decodeJSON(raw []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return nil, err
	}
	return object, nil
}

// encodeItem gives an object whose status was changed, and whose metadata may have been, in the encoding that it had. In protobuf
// only those are written anew: the Go types may not know every field of the rest.
func encodeItem(was scope.Item, object map[string]any, metadata bool) (scope.Item, error) {
	raw, err := json.Marshal(object)
	if err != nil {
		return scope.Item{}, fmt.Errorf("write %s %s/%s: %w", was.Kind, was.Namespace, was.Name, err)
	}
	item := was
	item.Raw, item.Encoding, item.Essence = raw, scope.JSON, 0
	if was.Encoding == scope.JSON {
		return item, nil
	}
	if item, err = media.Convert(item, scope.Protobuf); err != nil {
		return scope.Item{}, err
	}
	fields := []int{fieldStatus}
	if metadata {
		fields = append(fields, fieldMetadata)
	}
	if item.Raw, err = graft(was.Raw, item.Raw, fields); err != nil {
		return scope.Item{}, fmt.Errorf("write %s %s/%s: %w", was.Kind, was.Namespace, was.Name, err)
	}
	return item, nil
}
