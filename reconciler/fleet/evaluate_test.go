package fleet_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/fleet/fleettest"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

func TestEvaluate(t *testing.T) {
	in := fleettest.Input(fleettest.Files(5, 5), 0)
	p, err := fleet.Evaluate(in)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := plan.Canonical(p)
	t.Log(string(b))
}

func TestEvaluateDigestIgnoresFileOrder(t *testing.T) {
	files := fleettest.Files(20, 20)
	files = append(files, fleet.File{Path: "pools/site-00000/more.cue", Data: []byte("package fleet\n\npool: nodes: extra: arch: \"arm\"\n")})
	in := fleettest.Input(files, 0)
	want, err := fleet.Evaluate(in)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		r.Shuffle(len(in.Files), func(i, j int) { in.Files[i], in.Files[j] = in.Files[j], in.Files[i] })
		got, err := fleet.Evaluate(in)
		if err != nil {
			t.Fatal(err)
		}
		if got.Digest() != want.Digest() {
			t.Fatalf("digest %s, want %s", got.Digest(), want.Digest())
		}
	}
}

func TestProblems(t *testing.T) {
	const pool = "package fleet\n"
	for _, c := range []struct{ name, file, text, want string }{
		{
			"no architecture", "", "pool: nodes: a: {}",
			`pools/site-00000/bad.cue:2:14: pool.nodes.a.arch: field is required but not present`,
		},
		{
			"node name", "", "pool: nodes: A_b: arch: \"arm64\"",
			`pools/site-00000/bad.cue:2:14: pool.nodes.A_b: a node's name is DNS labels joined by dots: lower case letters, digits and hyphens`,
		},
		{
			"unknown architecture", "", "pool: nodes: a: arch: \"arm65\"",
			`pools/site-00000/bad.cue:2:23: pool.nodes.a.arch: "arm65" is none of "amd64", "arm", "arm64", "riscv64"`,
		},
		{
			"label key", "", "pool: nodes: a: {arch: \"arm64\", labels: \"-x/y\": \"a\"}",
			`pools/site-00000/bad.cue:2:41: pool.nodes.a.labels."-x/y": not a label key as Kubernetes takes it: [DNS subdomain/]name of at most 63 characters`,
		},
		{
			"label value", "", "pool: nodes: a: {arch: \"arm64\", labels: x: \"a b\"}",
			`pools/site-00000/bad.cue:2:44: pool.nodes.a.labels.x: "a b" is not a label value as Kubernetes takes it: at most 63 letters, digits, "-", "_" and ".", with a letter or digit at both ends`,
		},
		{
			"reserved label", "", "pool: nodes: a: {arch: \"arm64\", labels: \"fleet.holdfast.dev/pool\": \"a\"}",
			`pools/site-00000/bad.cue:2:41: pool.nodes.a.labels."fleet.holdfast.dev/pool": labels and annotations under fleet.holdfast.dev/ are Holdfast's own`,
		},
		{
			"reserved taint", "", "pool: nodes: a: {arch: \"arm64\", taints: \"fleet.holdfast.dev/pool\": effect: \"NoSchedule\"}",
			`pools/site-00000/bad.cue:2:41: pool.nodes.a.taints."fleet.holdfast.dev/pool": taints under fleet.holdfast.dev/ are Holdfast's own`,
		},
		{
			"taint without effect", "", "pool: nodes: a: {arch: \"arm64\", taints: foo: value: \"a\"}",
			`pools/site-00000/bad.cue:2:41: pool.nodes.a.taints.foo.effect: field is required but not present`,
		},
		{
			"taint's effect", "", "pool: nodes: a: {arch: \"arm64\", taints: foo: effect: \"a\"}",
			`pools/site-00000/bad.cue:2:54: pool.nodes.a.taints.foo.effect: "a" is none of "NoExecute", "NoSchedule", "PreferNoSchedule"`,
		},
		{
			"unknown profile", "", "pool: nodes: a: {arch: \"arm64\", profiles: [\"tiil\"]}",
			`pools/site-00000/bad.cue:2:44: pool.nodes.a.profiles.0: "tiil" is none of "server", "till"`,
		},
		{
			"unknown field", "", "pool: nodes: a: {arch: \"arm64\", lables: x: \"a\"}",
			`pools/site-00000/bad.cue:2:33: pool.nodes.a.lables: field not allowed`,
		},
		{
			"does not unify", "", "pool: nodes: a: {arch: \"arm64\", labels: \"topology.kubernetes.io/region\": \"us\"}",
			`pools/site-00000/bad.cue:2:74: pool.nodes.a.labels."topology.kubernetes.io/region": conflicting values "eu-west" and "us"; the other is at pools/site-00000/pool.cue:9:43`,
		},
		{
			"every node", "", "pool: nodes: [string]: labels: \"topology.kubernetes.io/region\": \"us\"",
			`pools/site-00000/bad.cue:2:65: pool.nodes."site-00000-server".labels."topology.kubernetes.io/region": conflicting values "eu-west" and "us"; the other is at pools/site-00000/pool.cue:9:43 (and 2 more like it)`,
		},
		{
			"duration", "", "pool: agent: pollInterval: \"30\"",
			`pools/site-00000/bad.cue:2:28: pool.agent.pollInterval: "30" is not hours, minutes and seconds, such as "90s" or "1h30m" (and 6 more like it)`,
		},
		{
			"bound", "", "pool: agent: limits: memoryMB: 3",
			`pools/site-00000/bad.cue:2:32: pool.agent.limits.memoryMB: invalid value 3 (out of bound >=64) (and 6 more like it)`,
		},
		{
			"not concrete", "", "pool: nodes: a: arch: string",
			`pools/site-00000/bad.cue:2:17: pool.nodes.a.arch: incomplete value "amd64" | "arm64" | "arm" | "riscv64"`,
		},
		{
			"moved name", "", "pool: movedTo: a_b: \"x\"",
			`pools/site-00000/bad.cue:2:16: pool.movedTo.a_b: a node's name is DNS labels joined by dots: lower case letters, digits and hyphens`,
		},
		{
			"moved but there", "", "pool: nodes: a: arch: \"arm\"\npool: movedTo: a: \"x\"",
			`pools/site-00000/bad.cue:3:16: pool.movedTo.a: the pool still has the node a: remove it from nodes, since it moved to x`,
		},
		{
			"moved to itself", "", "pool: movedTo: a: \"site-00000\"",
			`pools/site-00000/bad.cue:2:16: pool.movedTo.a: names this pool itself`,
		},
		{
			"relays", "relays.cue", "relays: foo: \"x\"",
			`relays.cue:2:1: relays: relays are not part of these schemas yet`,
		},
		{
			"syntax", "", "pool: {",
			`pools/site-00000/bad.cue:2:9: expected '}', found 'EOF'`,
		},
		{
			"reference", "", "pool: displayName: nope",
			`pools/site-00000/bad.cue:2:20: pool.displayName: reference "nope" not found`,
		},
		{
			"import", "", "import \"example.com/x\"\npool: displayName: x.y",
			`pools/site-00000/bad.cue:2:8: import failed: cannot find package "example.com/x": cannot find module providing package example.com/x`,
		},
		{
			"pool in root", "x.cue", "pool: name: \"a\"",
			`pools/site-00000/pool.cue:6:15: pool.name: conflicting values "site-00000" and "a"; the other is at x.cue:2:13`,
		},
		{
			"two taints", "", "pool: nodes: a: {arch: \"arm\", taints: {a: effect: \"NoExecute\", b: {key: \"a\", effect: \"NoExecute\"}}}",
			`pools/site-00000/bad.cue:2:64: pool.nodes.a.taints.b: is a second taint with key a and effect NoExecute: a node takes one`,
		},
		{
			"own policy", "policy/x.cue", "rules: pool?: type: \"Cloud\"",
			`pools/site-00000/pool.cue:8:15: pool.type: conflicting values "Cloud" and "Edge"`,
		},
		{
			"embedded file", "", "@extern(embed)\npackage fleet\n\npool: nodes: _ @embed(file=nodes.json)",
			`pools/site-00000/bad.cue:4:16: @embed: open nodes.json: no such file or directory`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := c.file
			if file == "" {
				file = "pools/site-00000/bad.cue"
			}
			text := pool + c.text
			if strings.HasPrefix(file, "policy") {
				text = "package policy\n" + c.text
			}
			if strings.HasPrefix(c.text, "@") {
				text = c.text
			}
			files := append(fleettest.Files(3, 3), fleet.File{Path: file, Data: []byte(text + "\n")})
			_, err := fleet.Evaluate(fleettest.Input(files, 0))
			var ps fleet.Problems
			if !errors.As(err, &ps) {
				t.Fatalf("got %v", err)
			}
			if ps.Error() != c.want {
				t.Errorf("got  %s\nwant %s", ps, c.want)
			}
		})
	}
}
