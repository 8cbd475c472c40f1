//go:build !linux

package sandbox_test

import "github.com/holdfast-dev/holdfast/reconciler/sandbox"

// forkAndEnd is for the test on Linux.
var forkAndEnd sandbox.Func
