package fleettest

import "github.com/holdfast-dev/holdfast/reconciler/fleet"

// Broken is a fleet repo with one thing wrong: Files(3, 3) and one more file.
type Broken struct {
	Name string
	File fleet.File
	// Want is what Evaluate's error says of the pool PoolName(0).
	Want string
	// GoOnly says that plain cue does not see it.
	GoOnly bool
}

// Files gives the whole repo.
func (b Broken) Files() []fleet.File { return append(Files(3, 3), b.File) }

// AllBroken gives one fleet repo for each kind of mistake.
func AllBroken() []Broken { return broken }

var broken = []Broken{
	{
		Name: "no architecture",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte("package fleet\npool: nodes: a: {}")},
		Want: `pools/site-00000/bad.cue:2:14: pool.nodes.a.arch: field is required but not present`,
	},
	{
		Name: "node name",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: nodes: A_b: arch: "arm64"`)},
		Want: `pools/site-00000/bad.cue:2:14: pool.nodes.A_b: a node's name is DNS labels joined by dots: lower case letters, digits and hyphens`,
	},
	{
		Name: "unknown architecture",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: nodes: a: arch: "arm65"`)},
		Want: `pools/site-00000/bad.cue:2:23: pool.nodes.a.arch: "arm65" is none of "amd64", "arm", "arm64", "riscv64"`,
	},
	{
		Name: "label key",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: nodes: a: {arch: "arm64", labels: "-x/y": "a"}`)},
		Want: `pools/site-00000/bad.cue:2:41: pool.nodes.a.labels."-x/y": not a label key as Kubernetes takes it: [DNS subdomain/]name of at most 63 characters`,
	},
	{
		Name: "label value",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: nodes: a: {arch: "arm64", labels: x: "a b"}`)},
		Want: `pools/site-00000/bad.cue:2:44: pool.nodes.a.labels.x: "a b" is not a label value as Kubernetes takes it: at most 63 letters, digits, "-", "_" and ".", with a letter or digit at both ends`,
	},
	{
		Name: "reserved label",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: nodes: a: {arch: "arm64", labels: "fleet.holdfast.dev/pool": "a"}`)},
		Want: `pools/site-00000/bad.cue:2:41: pool.nodes.a.labels."fleet.holdfast.dev/pool": labels and annotations under fleet.holdfast.dev/ are Holdfast's own`,
	},
	{
		Name: "reserved taint",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: nodes: a: {arch: "arm64", taints: "fleet.holdfast.dev/pool": effect: "NoSchedule"}`)},
		Want: `pools/site-00000/bad.cue:2:41: pool.nodes.a.taints."fleet.holdfast.dev/pool": taints under fleet.holdfast.dev/ are Holdfast's own`,
	},
	{
		Name: "taint without effect",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: nodes: a: {arch: "arm64", taints: foo: value: "a"}`)},
		Want: `pools/site-00000/bad.cue:2:41: pool.nodes.a.taints.foo.effect: field is required but not present`,
	},
	{
		Name: "taint's effect",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: nodes: a: {arch: "arm64", taints: foo: effect: "a"}`)},
		Want: `pools/site-00000/bad.cue:2:54: pool.nodes.a.taints.foo.effect: "a" is none of "NoExecute", "NoSchedule", "PreferNoSchedule"`,
	},
	{
		Name: "unknown profile",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: nodes: a: {arch: "arm64", profiles: ["tiil"]}`)},
		Want: `pools/site-00000/bad.cue:2:44: pool.nodes.a.profiles.0: "tiil" is none of "server", "till"`,
	},
	{
		Name: "unknown field",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: nodes: a: {arch: "arm64", lables: x: "a"}`)},
		Want: `pools/site-00000/bad.cue:2:33: pool.nodes.a.lables: field not allowed`,
	},
	{
		Name: "does not unify",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: nodes: a: {arch: "arm64", labels: "topology.kubernetes.io/region": "us"}`)},
		Want: `pools/site-00000/bad.cue:2:74: pool.nodes.a.labels."topology.kubernetes.io/region": conflicting values "eu-west" and "us"; the other is at pools/site-00000/pool.cue:9:43`,
	},
	{
		Name: "every node",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: nodes: [string]: labels: "topology.kubernetes.io/region": "us"`)},
		Want: `pools/site-00000/bad.cue:2:65: pool.nodes."site-00000-server".labels."topology.kubernetes.io/region": conflicting values "eu-west" and "us"; the other is at pools/site-00000/pool.cue:9:43 (and 2 more like it)`,
	},
	{
		Name: "duration",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: agent: pollInterval: "30"`)},
		Want: `pools/site-00000/bad.cue:2:28: pool.agent.pollInterval: "30" is not hours, minutes and seconds, such as "90s" or "1h30m" (and 6 more like it)`,
	},
	{
		Name: "bound",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte("package fleet\npool: agent: limits: memoryMB: 3")},
		Want: `pools/site-00000/bad.cue:2:32: pool.agent.limits.memoryMB: invalid value 3 (out of bound >=192) (and 6 more like it)`,
	},
	{
		Name: "not concrete",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte("package fleet\npool: nodes: a: arch: string")},
		Want: `pools/site-00000/bad.cue:2:17: pool.nodes.a.arch: incomplete value "amd64" | "arm64" | "arm" | "riscv64"`,
	},
	{
		Name: "moved name",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: movedTo: a_b: "x"`)},
		Want: `pools/site-00000/bad.cue:2:16: pool.movedTo.a_b: a node's name is DNS labels joined by dots: lower case letters, digits and hyphens`,
	},
	{
		Name: "moved but there", GoOnly: true,
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: nodes: a: arch: "arm"
pool: movedTo: a: "x"`)},
		Want: `pools/site-00000/bad.cue:3:16: pool.movedTo.a: the pool still has the node a: remove it from nodes, since it moved to x`,
	},
	{
		Name: "moved to itself", GoOnly: true,
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: movedTo: a: "site-00000"`)},
		Want: `pools/site-00000/bad.cue:2:16: pool.movedTo.a: names this pool itself`,
	},
	{
		Name: "relays",
		File: fleet.File{Path: "relays.cue", Data: []byte(`package fleet
relays: foo: "x"`)},
		Want: `relays.cue:2:1: relays: relays are not part of these schemas yet`,
	},
	{
		Name: "syntax",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte("package fleet\npool: {")},
		Want: `pools/site-00000/bad.cue:2:8: expected '}', found 'EOF'`,
	},
	{
		Name: "reference",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte("package fleet\npool: displayName: nope")},
		Want: `pools/site-00000/bad.cue:2:20: pool.displayName: reference "nope" not found`,
	},
	{
		Name: "import",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
import "example.com/x"
pool: displayName: x.y`)},
		Want: `pools/site-00000/bad.cue:2:8: import failed: cannot find package "example.com/x": cannot find module providing package example.com/x`,
	},
	{
		Name: "pool in root",
		File: fleet.File{Path: "x.cue", Data: []byte(`package fleet
pool: name: "a"`)},
		Want: `pools/site-00000/pool.cue:6:15: pool.name: conflicting values "site-00000" and "a"; the other is at x.cue:2:13`,
	},
	{
		Name: "two taints", GoOnly: true,
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte(`package fleet
pool: nodes: a: {arch: "arm", taints: {a: effect: "NoExecute", b: {key: "a", effect: "NoExecute"}}}`)},
		Want: `pools/site-00000/bad.cue:2:64: pool.nodes.a.taints.b: is a second taint with key a and effect NoExecute: a node takes one`,
	},
	{
		Name: "own policy",
		File: fleet.File{Path: "policy/x.cue", Data: []byte(`package policy
rules: pool?: type: "Cloud"`)},
		Want: `pools/site-00000/pool.cue:8:15: pool.type: conflicting values "Cloud" and "Edge"`,
	},
	{
		Name: "embedded file",
		File: fleet.File{Path: "pools/site-00000/bad.cue", Data: []byte("@extern(embed)\npackage fleet\n\npool: nodes: _ @embed(file=nodes.json)")},
		Want: `pools/site-00000/bad.cue:4:16: @embed: open nodes.json: no such file or directory`,
	},
}
