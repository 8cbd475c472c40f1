package hub

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// evictionAnnotation remembers on a Pod which tolerationSeconds the hub raised: "KEY=WAS/SET" with commas between, sorted. So a pool
// that takes its autonomyDuration back gets its pods as they were, and seconds that somebody else set since are theirs.
const evictionAnnotation = "fleet.holdfast.dev/eviction-seconds"

// lostTaints are the taints of a node that Kubernetes does not hear of, for which it evicts pods.
var lostTaints = []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable}

// raised is what the hub did to one toleration.
type raised struct{ was, set int64 }

// keepFor gives a pod's tolerations such that it is kept for so many seconds on a node that is lost, and the annotation that
// remembers what was raised. Zero seconds put back what was. Seconds are raised in place: tolerations are matched in their order,
// and DefaultTolerationSeconds has put its 300 there already. Nothing is ever lowered below what somebody else set, and no
// toleration is taken away, which Kubernetes would refuse.
func keepFor(seconds int64, observed []corev1.Toleration, annotation string) ([]corev1.Toleration, string) {
	out := slices.Clone(observed)
	memory := parseRaised(annotation)
	for _, key := range lostTaints {
		out = keepForTaint(seconds, out, key, memory)
	}
	return out, formatRaised(memory)
}

func keepForTaint(seconds int64, tolerations []corev1.Toleration, key string, memory map[string]raised) []corev1.Toleration {
	i := slices.IndexFunc(tolerations, func(t corev1.Toleration) bool { return tolerates(t, key) })
	if i < 0 {
		if seconds > 0 {
			memory[key] = raised{was: 0, set: seconds}
			tolerations = append(tolerations, tolerationOf(key, seconds))
		}
		return tolerations
	}
	t := tolerations[i]
	if t.TolerationSeconds == nil { // for ever
		delete(memory, key)
		return tolerations
	}
	now := max(0, *t.TolerationSeconds)
	was := now
	if r, ok := memory[key]; ok && r.set == now {
		was = r.was
	}
	target := max(was, seconds)
	if target == was {
		delete(memory, key)
	} else {
		memory[key] = raised{was: was, set: target}
	}
	switch {
	case target == now:
	case t.Key == "": // it tolerates other taints, too, for which it must stay as it is: one of our own goes before it
		tolerations = slices.Insert(tolerations, i, tolerationOf(key, target))
	default:
		tolerations[i].TolerationSeconds = &target
	}
	return tolerations
}

func tolerationOf(key string, seconds int64) corev1.Toleration {
	return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}
}

// tolerates tells whether a toleration matches the taint KEY:NoExecute, which has no value.
func tolerates(t corev1.Toleration, key string) bool {
	if t.Effect != "" && t.Effect != corev1.TaintEffectNoExecute {
		return false
	}
	if t.Key == "" {
		return t.Operator == corev1.TolerationOpExists
	}
	return t.Key == key && (t.Operator == corev1.TolerationOpExists || t.Value == "" && (t.Operator == "" || t.Operator == corev1.TolerationOpEqual))
}

// parseRaised reads what formatRaised wrote and leaves out what it cannot read: then the seconds that are there count as the pod's own.
func parseRaised(annotation string) map[string]raised {
	out := map[string]raised{}
	for item := range strings.SplitSeq(annotation, ",") {
		key, seconds, _ := strings.Cut(item, "=")
		was, set, _ := strings.Cut(seconds, "/")
		w, err1 := strconv.ParseInt(was, 10, 64)
		s, err2 := strconv.ParseInt(set, 10, 64)
		if err1 == nil && err2 == nil && w >= 0 && slices.Contains(lostTaints, key) {
			out[key] = raised{w, s}
		}
	}
	return out
}

func formatRaised(memory map[string]raised) string {
	var items []string
	for _, key := range lostTaints {
		if r, ok := memory[key]; ok {
			items = append(items, fmt.Sprintf("%s=%d/%d", key, r.was, r.set))
		}
	}
	return strings.Join(items, ",")
}
