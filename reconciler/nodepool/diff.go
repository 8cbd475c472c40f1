package nodepool

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Change is one mark that is not as it should be.
type Change struct {
	// Kind is "label" or "annotation".
	Kind string
	Key  string
	// Old is what is there, New what should be; nil means nothing.
	Old, New *string
}

func (c Change) String() string {
	switch {
	case c.New == nil:
		return fmt.Sprintf("remove %s %s", c.Kind, c.Key)
	case c.Old == nil:
		return fmt.Sprintf("set %s %s=%s", c.Kind, c.Key, *c.New)
	case *c.Old == *c.New:
		return fmt.Sprintf("own %s %s=%s", c.Kind, c.Key, *c.New)
	default:
		return fmt.Sprintf("change %s %s=%s to %s", c.Kind, c.Key, *c.Old, *c.New)
	}
}

// Diff gives what to change, sorted by kind and key: marks that are missing, different or not yet owned, and owned ones
// that are not desired any more. Marks that others set are none of its business.
func Diff(o Observed, want Marks) []Change {
	return append(diff("annotation", o.Annotations, o.Owned.Annotations, want.Annotations),
		diff("label", o.Labels, o.Owned.Labels, want.Labels)...)
}

func diff(kind string, have map[string]string, owned []string, want map[string]string) []Change {
	var out []Change
	for _, key := range slices.Sorted(maps.Keys(want)) {
		value := want[key]
		old, found := have[key]
		_, own := slices.BinarySearch(owned, key)
		if found && old == value && own {
			continue
		}
		c := Change{Kind: kind, Key: key, New: &value}
		if found {
			c.Old = &old
		}
		out = append(out, c)
	}
	for _, key := range owned {
		if _, wanted := want[key]; wanted {
			continue
		}
		old := have[key]
		out = append(out, Change{Kind: kind, Key: key, Old: &old})
	}
	slices.SortStableFunc(out, func(a, b Change) int { return strings.Compare(a.Key, b.Key) })
	return out
}
