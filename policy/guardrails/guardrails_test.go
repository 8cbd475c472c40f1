package guardrails_test

import (
	"fmt"
	"strings"
	"testing"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/holdfast-dev/holdfast/policy/guardrails"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// rules gives the guardrails.
func rules(t *testing.T) cue.Value {
	t.Helper()
	src, err := guardrails.FS.ReadFile("guardrails.cue")
	if err != nil {
		t.Fatal(err)
	}
	v := cuecontext.New().CompileBytes(src)
	if err := v.Err(); err != nil {
		t.Fatal(err)
	}
	return v.LookupPath(cue.ParsePath("rules"))
}

// allows says whether the guardrails let a fleet of that CUE pass.
func allows(rules cue.Value, text string) bool {
	v := rules.Unify(cuecontext.New().CompileString(text))
	return v.Validate(cue.Concrete(true)) == nil
}

// samples are keys and values at, within and past every bound that Kubernetes has.
func samples() []string {
	out := []string{"", "a", "A", "a-b", "a_b", "a.b", "-a", "a-", "_a", "a.", "a b", "ä", "1", "a/b", "A/b", "a.b/c", "a..b/c", "-a/b", "a-/b", "/b", "a/", "a/b/c", "a_b/c", "a.b.c/D_e.f-G", "1/2", "a\n", "a/b\n"}
	for _, n := range []int{62, 63, 64} {
		out = append(out, strings.Repeat("x", n), "p/"+strings.Repeat("x", n), strings.Repeat("x", n)+"/a", strings.Repeat("x", n)+".example.com/a")
	}
	for _, n := range []int{252, 253, 254} {
		prefix := strings.Repeat("abcdefghi.", 30)[:n-1] + "z"
		out = append(out, prefix+"/a", prefix)
	}
	return out
}

// TestLikeKubernetes compares the guardrails with Kubernetes' own validation.
func TestLikeKubernetes(t *testing.T) {
	r := rules(t)
	for _, s := range samples() {
		key := len(validation.IsQualifiedName(s)) == 0 && !plan.Reserved(s)
		value := len(validation.IsValidLabelValue(s)) == 0
		name := len(validation.IsDNS1123Subdomain(s)) == 0
		for _, part := range strings.Split(s, ".") {
			name = name && len(part) <= 63 // stricter than Kubernetes: each part is a DNS label
		}
		for _, c := range []struct {
			what string
			cue  string
			want bool
		}{
			{"label key", fmt.Sprintf("fleet: labels: %q: \"x\"", s), key},
			{"annotation key", fmt.Sprintf("fleet: annotations: %q: \"x y\"", s), key},
			{"taint key", fmt.Sprintf("fleet: taints: %q: {key: %[1]q, effect: \"NoSchedule\"}", s), key},
			{"pool's label key", fmt.Sprintf("pool: labels: %q: \"x\"", s), key},
			{"profile's label key", fmt.Sprintf("profiles: p: labels: %q: \"x\"", s), key},
			{"node's label key", fmt.Sprintf("pool: nodes: n: {arch: \"arm\", labels: %q: \"x\"}", s), key},
			{"label value", fmt.Sprintf("fleet: labels: a: %q", s), value},
			{"taint value", fmt.Sprintf("fleet: taints: a: {key: \"a\", effect: \"NoSchedule\", value: %q}", s), value},
			{"node name", fmt.Sprintf("pool: nodes: %q: arch: \"arm\"", s), name},
			{"moved node", fmt.Sprintf("pool: movedTo: %q: \"x\"", s), name},
		} {
			if got := allows(r, c.cue); got != c.want {
				t.Errorf("%s %q: allowed is %v, Kubernetes says %v", c.what, s, got, c.want)
			}
		}
	}
}

func TestReserved(t *testing.T) {
	r := rules(t)
	for _, key := range []string{plan.PoolLabel, plan.Prefix + "x", "x.fleet.holdfast.dev/y", "fleet-holdfast.dev/x"} {
		want := !plan.Reserved(key)
		for _, text := range []string{"fleet: labels: %q: \"x\"", "fleet: annotations: %q: \"x\"", "fleet: taints: %q: {key: %[1]q, effect: \"NoSchedule\"}"} {
			if got := allows(r, fmt.Sprintf(text, key)); got != want {
				t.Errorf("%s: allowed is %v, want %v", fmt.Sprintf(text, key), got, want)
			}
		}
	}
}

func TestRequired(t *testing.T) {
	r := rules(t)
	for text, want := range map[string]bool{
		`pool: nodes: n: arch: "arm"`: true,
		`pool: nodes: n: {}`:          false,
		`pool: nodes: n: {arch: "arm", taints: x: {key: "x", effect: "NoSchedule"}}`: true,
		`pool: nodes: n: {arch: "arm", taints: x: key: "x"}`:                         false,
		`fleet: {}`: true,
	} {
		if got := allows(r, text); got != want {
			t.Errorf("%s: allowed is %v", text, got)
		}
	}
}
