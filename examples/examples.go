// Package examples holds a fleet repo to read and to copy from, which is also the golden input of the tests, and gives its
// pre-merge checks to holdfast init.
package examples

import "embed"

// Checks holds the pre-merge checks, below fleet-repo.
//
//go:embed fleet-repo/.github/workflows/fleet.yaml fleet-repo/.gitlab-ci.yml fleet-repo/hooks/pre-receive
var Checks embed.FS
