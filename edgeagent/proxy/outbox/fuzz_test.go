package outbox_test

import (
	"encoding/json"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
)

// FuzzMerge: whatever a patch is, merging it and finding what is left of it neither panics nor makes what cannot be written.
func FuzzMerge(f *testing.F) {
	f.Add(`{"status":{"conditions":[{"type":"Ready","status":"True"}],"podIPs":[{"ip":"a"}]}}`, `{"status":{"$setElementOrder/podIPs":[{"ip":"b"}],"podIPs":[{"ip":"b"},{"$patch":"delete","ip":"a"}]}}`)
	f.Add(`{"status":{"phase":"x"}}`, `{"status":{"$patch":"replace","conditions":[{"type":1},{"type":null}]}}`)
	f.Add(`{"metadata":{"finalizers":["a"]}}`, `{"metadata":{"$deleteFromPrimitiveList/finalizers":["a"],"finalizers":[{"a":1},null]}}`)
	f.Add(`{"status":{"conditions":["x",null,{}]}}`, `{"status":{"conditions":[{"type":"a","$retainKeys":["type"]},{"$patch":"merge"}]}}`)
	f.Fuzz(func(t *testing.T, object, patch string) {
		for _, resource := range []string{"pods", "nodes", "events", "leases"} {
			var base, o, p map[string]any
			if json.Unmarshal([]byte(object), &base) != nil || json.Unmarshal([]byte(object), &o) != nil || json.Unmarshal([]byte(patch), &p) != nil || o == nil || p == nil {
				return
			}
			merged, err := outbox.Merge(resource, o, p)
			if err != nil {
				continue
			}
			if _, err := json.Marshal(merged); err != nil {
				t.Fatal(err)
			}
			left := outbox.Diff(resource, base, merged)
			if _, err := json.Marshal(left); err != nil {
				t.Fatal(err)
			}
			outbox.Only(resource, base, left)
		}
	})
}
