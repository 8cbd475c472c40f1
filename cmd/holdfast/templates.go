package main

import (
	"fmt"

	"github.com/holdfast-dev/holdfast/reconciler/fleet"
)

// templates are the files of a new fleet repo that are the operator's from then on.
func templates(id string) []fleet.File {
	module := "fleet.internal/" + id
	return []fleet.File{
		{Path: "cue.mod/module.cue", Data: fmt.Appendf(nil, "module: %q\nlanguage: version: \"v0.17.0\"\n", module)},
		{Path: "fleet.cue", Data: fmt.Appendf(nil, fleetTemplate, module, id)},
		{Path: "profiles.cue", Data: []byte(profilesTemplate)},
		{Path: "policy/policy.cue", Data: []byte(policyTemplate)},
	}
}

const fleetTemplate = `// What holds for every pool and node. Pools are in pools/<pool>/*.cue, of this same package.
package fleet

import (
	"holdfast.dev/policy/guardrails"
	"holdfast.dev/schemas"

	"%s/policy"
)

schemas.#Repo
guardrails.rules
policy.rules

fleet: {
	displayName: %q

	// Labels, annotations and taints here are on every node.
	// labels: "example.com/fleet": "..."

	agent: {
		pollInterval: "1m"
		// A node whose newest revision is older says that it is Stale. It goes on all the same.
		freshness: "720h"
		// Resources that nodes do not keep for when they are cut off.
		// proxy: neverCache: "widgets.example.com": true
	}

	// How long a node that cannot be reached keeps its pods. Without it they are evicted after five minutes.
	// autonomyDuration: "168h"
}
`

const profilesTemplate = `package fleet

// Profiles are named bundles of settings; a node lists those it takes: profiles: ["small"].
profiles: {
	// small: {
	// 	arch: "arm64"
	// 	labels: "example.com/size": "small"
	// 	taints: "example.com/small": effect: "NoSchedule"
	// }
}
`

const policyTemplate = `// Package policy holds this organisation's own rules. fleet.cue takes them in.
package policy

rules: {
	// An example: every pool says in which region it is.
	// pool?: labels: "topology.kubernetes.io/region"!: string
	...
}
`
