//go:build !bench

package fleet_test

import "github.com/holdfast-dev/holdfast/reconciler/sandbox"

// extraChildren gives TestMain the functions that benchmarks run in children of their own: none without them.
func extraChildren() map[string]sandbox.Func { return nil }
