package nodepool

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Manager is the field manager the node applies its marks as.
const Manager = "holdfast-agent"

// Observed is what the API server says of the Node.
type Observed struct {
	UID string
	Marks
	// Owned are the keys that were applied by Manager, as the API server keeps account of them: nothing on the node has
	// to remember what to remove.
	Owned Keys
}

// Keys are keys of labels and annotations, sorted.
type Keys struct {
	Labels      []string
	Annotations []string
}

// Observe reads a Node's metadata as the API server writes it.
func Observe(raw []byte) (Observed, error) {
	var node struct {
		Metadata struct {
			UID           string            `json:"uid"`
			Labels        map[string]string `json:"labels"`
			Annotations   map[string]string `json:"annotations"`
			ManagedFields []struct {
				Manager     string `json:"manager"`
				Operation   string `json:"operation"`
				Subresource string `json:"subresource"`
				Fields      struct {
					Metadata struct {
						Labels      map[string]any `json:"f:labels"`
						Annotations map[string]any `json:"f:annotations"`
					} `json:"f:metadata"`
				} `json:"fieldsV1"`
			} `json:"managedFields"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &node); err != nil {
		return Observed{}, fmt.Errorf("read Node: %w", err)
	}
	m := node.Metadata
	o := Observed{UID: m.UID, Marks: Marks{Labels: m.Labels, Annotations: m.Annotations}}
	for _, f := range m.ManagedFields {
		if f.Manager == Manager && f.Operation == "Apply" && f.Subresource == "" {
			o.Owned = Keys{Labels: fieldKeys(f.Fields.Metadata.Labels), Annotations: fieldKeys(f.Fields.Metadata.Annotations)}
		}
	}
	return o, nil
}

// fieldKeys gives the map keys of a fieldsV1 set: "f:KEY" is a key, "." is the map itself.
func fieldKeys(set map[string]any) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(set)) {
		if key, ok := strings.CutPrefix(k, "f:"); ok {
			out = append(out, key)
		}
	}
	return out
}
