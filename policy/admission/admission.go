// Package admission holds what the cluster itself enforces, so that a stolen node is only that node: RBAC and admission
// policies that let a node report of itself and deny it whatever decides what a node receives. `holdfast install` applies
// them. They need no webhook, so they hold while the hub is down.
package admission

import "embed"

// Files holds the YAML files under manifests/: ClusterRoles with their bindings, ValidatingAdmissionPolicies with theirs.
//
//go:embed manifests/*.yaml
var Files embed.FS
