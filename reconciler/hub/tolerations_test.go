package hub

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// render writes tolerations in their order: KEY operator effect seconds.
func render(tolerations []corev1.Toleration) string {
	var out []string
	for _, t := range tolerations {
		s := strings.TrimPrefix(t.Key, "node.kubernetes.io/")
		if s == "" {
			s = "*"
		}
		if t.Effect != corev1.TaintEffectNoExecute {
			s += ":" + string(t.Effect)
		}
		if t.TolerationSeconds != nil {
			s += fmt.Sprintf(" %d", *t.TolerationSeconds)
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func toleration(key string, effect corev1.TaintEffect, seconds ...int64) corev1.Toleration {
	t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
	if len(seconds) > 0 {
		t.TolerationSeconds = &seconds[0]
	}
	return t
}

func TestKeepFor(t *testing.T) {
	const execute = corev1.TaintEffectNoExecute
	notReady, unreachable := lostTaints[0], lostTaints[1]
	both := func(seconds int64) []corev1.Toleration {
		return []corev1.Toleration{toleration(notReady, execute, seconds), toleration(unreachable, execute, seconds)}
	}
	remembered := func(was, set int64) string {
		return fmt.Sprintf("%s=%d/%d,%s=%d/%d", notReady, was, set, unreachable, was, set)
	}
	for name, c := range map[string]struct {
		seconds          int64
		observed         []corev1.Toleration
		annotation       string
		want, wantMemory string
	}{
		"the defaults are raised":        {3600, both(300), "", "not-ready 3600, unreachable 3600", remembered(300, 3600)},
		"again changes nothing":          {3600, both(3600), remembered(300, 3600), "not-ready 3600, unreachable 3600", remembered(300, 3600)},
		"more":                           {7200, both(3600), remembered(300, 3600), "not-ready 7200, unreachable 7200", remembered(300, 7200)},
		"less":                           {600, both(3600), remembered(300, 3600), "not-ready 600, unreachable 600", remembered(300, 600)},
		"taken back":                     {0, both(3600), remembered(300, 3600), "not-ready 300, unreachable 300", ""},
		"a pod that says more":           {3600, both(9000), "", "not-ready 9000, unreachable 9000", ""},
		"somebody set seconds since":     {3600, both(100), remembered(300, 7200), "not-ready 3600, unreachable 3600", remembered(100, 3600)},
		"somebody's seconds stay":        {0, both(100), remembered(300, 7200), "not-ready 100, unreachable 100", ""},
		"for ever":                       {3600, []corev1.Toleration{toleration(notReady, execute), toleration(unreachable, "")}, "", "not-ready, unreachable:", ""},
		"everything for ever":            {3600, []corev1.Toleration{toleration("", "")}, "", "*:", ""},
		"none":                           {3600, nil, "", "not-ready 3600, unreachable 3600", remembered(0, 3600)},
		"none, and no pool":              {0, nil, "", "", ""},
		"added ones are taken back to 0": {0, both(3600), remembered(0, 3600), "not-ready 0, unreachable 0", ""},
		"another effect is no match": {60, []corev1.Toleration{toleration(notReady, corev1.TaintEffectNoSchedule)}, "",
			"not-ready:NoSchedule, not-ready 60, unreachable 60", remembered(0, 60)},
		"the first match counts": {60, append(both(10), both(20)...), "", "not-ready 60, unreachable 60, not-ready 20, unreachable 20", remembered(10, 60)},
		"one for all taints stays as it is": {60, []corev1.Toleration{toleration("", execute, 10)}, "",
			"not-ready 60, unreachable 60, * 10", remembered(10, 60)},
		"an annotation nobody can read": {60, both(10), "x=1/2,,node.kubernetes.io/not-ready=a/b", "not-ready 60, unreachable 60", remembered(10, 60)},
		"less than no time":             {60, both(-5), "", "not-ready 60, unreachable 60", remembered(0, 60)},
	} {
		t.Run(name, func(t *testing.T) {
			before := render(c.observed)
			got, memory := keepFor(c.seconds, c.observed, c.annotation)
			if render(got) != c.want || memory != c.wantMemory {
				t.Errorf("got  %q %q\nwant %q %q", render(got), memory, c.want, c.wantMemory)
			}
			again, memory2 := keepFor(c.seconds, got, memory)
			if render(again) != render(got) || memory2 != memory {
				t.Errorf("a second time changes %q %q to %q %q", render(got), memory, render(again), memory2)
			}
			if render(c.observed) != before {
				t.Error("the pod in the cache was changed")
			}
		})
	}
}
