package hub

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// taintID is what makes a taint one and the same: a Node has at most one of each key and effect.
type taintID struct{ key, effect string }

// mergeTaints gives a Node's taints with the planned ones in force: foreign taints stay where they are, taints that the hub
// set by an earlier plan and that this one no longer has go. A planned taint replaces a foreign one of the same key
// and effect. The uninitialized taint goes: this write sets what it waits for.
func mergeTaints(observed []corev1.Taint, owned []taintID, want []plan.Taint) []corev1.Taint {
	values := make(map[taintID]string, len(want))
	for _, t := range want {
		values[taintID{t.Key, t.Effect}] = t.Value
	}
	var merged []corev1.Taint
	placed := map[taintID]bool{}
	for _, t := range observed {
		id := taintID{t.Key, string(t.Effect)}
		value, wanted := values[id]
		switch {
		case wanted:
			placed[id] = true
			if t.Value != value {
				t = corev1.Taint{Key: t.Key, Value: value, Effect: t.Effect}
			}
		case slices.Contains(owned, id), t.Key == uninitializedTaint:
			continue
		}
		merged = append(merged, t)
	}
	for _, t := range want {
		if !placed[taintID{t.Key, t.Effect}] {
			merged = append(merged, corev1.Taint{Key: t.Key, Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
		}
	}
	return merged
}

// formatOwned writes the taints the hub sets as the annotation remembers them: "key:effect" with commas between, sorted.
// It is empty for none.
func formatOwned(taints []plan.Taint) string {
	out := make([]string, 0, len(taints))
	for _, t := range taints {
		out = append(out, t.Key+":"+t.Effect)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// parseOwned reads what formatOwned wrote and leaves out what it cannot read: a taint too few is kept on the Node, never
// one too many removed.
func parseOwned(annotation string) []taintID {
	var ids []taintID
	for item := range strings.SplitSeq(annotation, ",") {
		if key, effect, found := strings.Cut(item, ":"); found && key != "" && effect != "" {
			ids = append(ids, taintID{key, effect})
		}
	}
	return ids
}
