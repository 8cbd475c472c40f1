// Package labtest gives tests a lab: one API server for a whole test process, because starting one takes seconds. It is apart
// from package lab so that programs which use the lab do not link package testing.
package labtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/test/lab"
)

// shared is the lab of this test process: the reason for this package is that there is one.
var shared = sync.OnceValues(func() (*lab.Lab, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return lab.Start(ctx, lab.Options{})
})

// Shared gives the lab of this test process, an API server and etcd alone, and starts it at the first call. Tests that share
// it use names of their own. Nothing needs to close it: its programs end with the process, and the next lab removes its folder.
// A lab that cannot start fails the test; it never skips it.
func Shared(tb testing.TB) *lab.Lab {
	tb.Helper()
	l, err := shared()
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// Start gives a lab of the test's own, which is taken down when the test ends.
func Start(tb testing.TB, opts lab.Options) *lab.Lab {
	tb.Helper()
	if opts.Log == nil {
		opts.Log = tb.Output()
	}
	l, err := lab.Start(tb.Context(), opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l
}
