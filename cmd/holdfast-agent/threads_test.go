package main

import (
	"context"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestThreads(t *testing.T) {
	var th threads
	for i, step := range []struct {
		looks int
		share float64
		one   bool // after the last look
	}{
		{quietLooks - 1, 0.1, false}, {1, 0.4, false}, // not quiet for long enough
		{quietLooks - 1, 0.29, false}, {1, 0, true},
		{3, 0.59, true}, // still enough
		{1, 0.6, false}, {1, 1.9, false}, {quietLooks - 1, 0.1, false}, {1, 0.1, true},
	} {
		for range step.looks {
			before := th.one
			if changed := th.look(step.share); changed != (before != th.one) {
				t.Errorf("step %d: changed %v", i, changed)
			}
		}
		if th.one != step.one {
			t.Errorf("step %d, share %.2f: one thread %v", i, step.share, th.one)
		}
	}
}

func TestKeepThreads(t *testing.T) {
	if n, ok := os.LookupEnv("GOMAXPROCS"); ok { // which would have the last word
		os.Unsetenv("GOMAXPROCS")
		defer os.Setenv("GOMAXPROCS", n)
	}
	all := max(2, runtime.NumCPU())
	runtime.GOMAXPROCS(all)
	defer runtime.SetDefaultGOMAXPROCS()
	var used atomic.Int64
	var busy atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		keepThreads(ctx, time.Millisecond, func() time.Duration {
			if busy.Load() {
				used.Add(int64(time.Hour))
			}
			return time.Duration(used.Load())
		})
	})
	defer wg.Wait()
	defer cancel()
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d threads", what, runtime.GOMAXPROCS(0))
			}
		}
	}
	until("one is enough", func() bool { return runtime.GOMAXPROCS(0) == 1 })
	if runtime.NumCPU() > 1 {
		busy.Store(true)
		until("more are wanted", func() bool { return runtime.GOMAXPROCS(0) > 1 })
	}
}
