package hub

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// parseTaints reads "key=value:effect key:effect".
func parseTaints(t *testing.T, text string) []corev1.Taint {
	t.Helper()
	var out []corev1.Taint
	for _, item := range strings.Fields(text) {
		kv, effect, found := strings.Cut(item, ":")
		if !found {
			t.Fatalf("taint %q has no effect", item)
		}
		key, value, _ := strings.Cut(kv, "=")
		out = append(out, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	return out
}

func formatTaints(taints []corev1.Taint) string {
	var out []string
	for _, t := range taints {
		out = append(out, strings.TrimSuffix(fmt.Sprintf("%s=%s", t.Key, t.Value), "=")+":"+string(t.Effect))
	}
	return strings.Join(out, " ")
}

func TestMergeTaints(t *testing.T) {
	for _, c := range []struct {
		name, observed, owned, want, merged string
	}{
		{name: "nothing"},
		{name: "new", want: "a=1:NoSchedule b:NoExecute", merged: "a=1:NoSchedule b:NoExecute"},
		{name: "as planned", observed: "a=1:NoSchedule", owned: "a:NoSchedule", want: "a=1:NoSchedule", merged: "a=1:NoSchedule"},
		{name: "foreign stays and keeps its place", observed: "node.kubernetes.io/unreachable:NoExecute a=1:NoSchedule x:NoSchedule", owned: "a:NoSchedule",
			want: "a=2:NoSchedule b:NoSchedule", merged: "node.kubernetes.io/unreachable:NoExecute a=2:NoSchedule x:NoSchedule b:NoSchedule"},
		{name: "no longer planned", observed: "a=1:NoSchedule x:NoSchedule", owned: "a:NoSchedule", merged: "x:NoSchedule"},
		{name: "another effect is another taint", observed: "a=1:NoExecute", owned: "a:NoSchedule", merged: "a=1:NoExecute"},
		{name: "changed effect", observed: "a=1:NoSchedule", owned: "a:NoSchedule", want: "a=1:NoExecute", merged: "a=1:NoExecute"},
		{name: "a planned taint takes a foreign one over", observed: "a=9:NoSchedule", want: "a=1:NoSchedule", merged: "a=1:NoSchedule"},
		{name: "foreign taint that the plan never had", observed: "a=1:NoSchedule", merged: "a=1:NoSchedule"},
		{name: "initialized", observed: uninitializedTaint + ":NoSchedule a:NoSchedule", want: "a:NoSchedule", merged: "a:NoSchedule"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want []plan.Taint
			for _, w := range parseTaints(t, c.want) {
				want = append(want, plan.Taint{Key: w.Key, Value: w.Value, Effect: string(w.Effect)})
			}
			observed := parseTaints(t, c.observed)
			got := mergeTaints(observed, parseOwned(strings.ReplaceAll(c.owned, " ", ",")), want)
			if formatTaints(got) != c.merged {
				t.Errorf("got %q, want %q", formatTaints(got), c.merged)
			}
			if formatTaints(observed) != c.observed {
				t.Errorf("the observed list was changed to %q", formatTaints(observed))
			}
			if again := mergeTaints(got, parseOwned(formatOwned(want)), want); formatTaints(again) != c.merged {
				t.Errorf("merging again gives %q", formatTaints(again))
			}
		})
	}
}

func TestOwnedTaints(t *testing.T) {
	text := formatOwned([]plan.Taint{{Key: "b.example.com/x", Value: "v", Effect: "NoExecute"}, {Key: "a", Effect: "NoSchedule"}})
	if want := "a:NoSchedule,b.example.com/x:NoExecute"; text != want {
		t.Errorf("formatOwned = %q, want %q", text, want)
	}
	want := []taintID{{"a", "NoSchedule"}, {"b.example.com/x", "NoExecute"}}
	if got := parseOwned(text + ",broken,:x,y:,"); !reflect.DeepEqual(got, want) {
		t.Errorf("parseOwned = %v, want %v", got, want)
	}
	if got := parseOwned(""); got != nil {
		t.Errorf("parseOwned of nothing = %v", got)
	}
}
