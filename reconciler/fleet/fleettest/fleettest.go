// Package fleettest makes fleet repos of any size, for tests and benchmarks.
package fleettest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-dev/holdfast/reconciler/fleet"
)

// PoolName gives the name of the i-th pool.
func PoolName(i int) string { return fmt.Sprintf("site-%05d", i) }

// Pools gives how many pools of that many nodes hold the nodes.
func Pools(nodes, perPool int) int { return (nodes + perPool - 1) / perPool }

// Root gives everything of a fleet repo that does not grow with the fleet: cue.mod with the vendored packages, the
// root's files, and an organisation's own rules.
func Root() []fleet.File {
	files, err := fleet.Vendored()
	if err != nil {
		panic(err) // the files are embedded in this program
	}
	return append(files,
		fleet.File{Path: "cue.mod/module.cue", Data: []byte("module: \"kelp.example/fleet\"\nlanguage: version: \"v0.17.0\"\n")},
		fleet.File{Path: "fleet.cue", Data: []byte(fleetCUE)},
		fleet.File{Path: "profiles.cue", Data: []byte(profilesCUE)},
		fleet.File{Path: "policy/policy.cue", Data: []byte(policyCUE)},
	)
}

// Pool gives the one file of the i-th pool: a server by name and the rest of the nodes by comprehension.
func Pool(i, nodes int) fleet.File {
	name := PoolName(i)
	return fleet.File{Path: "pools/" + name + "/pool.cue", Data: fmt.Appendf(nil, poolCUE, name, i, name, name, nodes)}
}

// Files gives a whole fleet repo of that many nodes, in pools of perPool, without trust/.
func Files(nodes, perPool int) []fleet.File {
	files := Root()
	for i := range Pools(nodes, perPool) {
		files = append(files, Pool(i, min(perPool, nodes-i*perPool)))
	}
	return files
}

// Input gives what evaluating the i-th pool reads.
func Input(files []fleet.File, i int) fleet.Input {
	in := fleet.Input{Fleet: "kelp", Pool: PoolName(i)}
	for _, f := range files {
		if fleet.Needed(in.Pool, f.Path) {
			in.Files = append(in.Files, f)
		}
	}
	return in
}

// Write writes the files below dir.
func Write(dir string, files []fleet.File) error {
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, f.Data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Edit gives the files with every old in the file at path replaced by new. It panics if there is none: a test that
// changes nothing tests nothing.
func Edit(files []fleet.File, path, old, new string) []fleet.File {
	out := append([]fleet.File(nil), files...)
	for i, f := range out {
		if f.Path == path && strings.Contains(string(f.Data), old) {
			out[i].Data = []byte(strings.ReplaceAll(string(f.Data), old, new))
			return out
		}
	}
	panic(fmt.Sprintf("%s has no %q", path, old))
}

const fleetCUE = `package fleet

import (
	"holdfast.dev/policy/guardrails"
	"holdfast.dev/schemas"

	"kelp.example/fleet/policy"
)

schemas.#Repo
guardrails.rules
policy.rules

fleet: {
	displayName: "Kelp"
	labels: "kelp.example/brand": "kelp"
	agent: {
		pollInterval: "1m"
		freshness:    "720h"
	}
}
`

const profilesCUE = `package fleet

profiles: {
	server: {
		arch: "amd64"
		labels: "kelp.example/role": "server"
		hardware: {vendor: "Acme", model: "R200", cpus: 16, memoryMB: 65536}
	}
	till: {
		arch: "arm64"
		labels: "kelp.example/role": "till"
		taints: "kelp.example/till": {value: "true", effect: "NoSchedule"}
		hardware: {vendor: "Acme", model: "T1", cpus: 4, memoryMB: 4096}
	}
}
`

const policyCUE = `// Package policy holds the organisation's own rules.
package policy

rules: {
	// Every pool says where it is.
	pool?: labels: "topology.kubernetes.io/region"!: string
	...
}
`

const poolCUE = `package fleet

import "list"

pool: {
	name:        %q
	displayName: "Site %d"
	type:        "Edge"
	labels: "topology.kubernetes.io/region": "eu-west"
	annotations: "kelp.example/contact": "store@kelp.example"
	nodes: {
		"%s-server": {
			profiles: ["server"]
			hardware: serial: "S-1"
		}
		for i in list.Range(1, %[5]d, 1) {
			"%[4]s-till-\(i)": profiles: ["till"]
		}
	}
}
`
