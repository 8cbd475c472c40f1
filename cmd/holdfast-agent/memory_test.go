package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"
)

func TestHeap(t *testing.T) {
	const mb = 1 << 20
	for name, test := range map[string]struct {
		before, now uint64
		idle        bool
	}{
		"calm after a burst":     {100 * mb, 101 * mb, true},
		"in the midst of one":    {100 * mb, 133 * mb, false},
		"calm since the last":    {91 * mb, 92 * mb, false},
		"much has come together": {92 * mb, 93 * mb, true},
	} {
		if idle := (heap{allocated: test.now}).idle(heap{allocated: test.before}, heap{allocated: 90 * mb}); idle != test.idle {
			t.Errorf("%s: %v", name, idle)
		}
	}
	for scanned, want := range map[uint64]int{0: mostPercent, mb: mostPercent, 4 * mb: 200, 8 * mb: 100, 30 * mb: 100} {
		if got := (heap{scanned: scanned}).percent(); got != want {
			t.Errorf("%d MB: %d %%, want %d %%", scanned/mb, got, want)
		}
	}
}

// TestKeepMemory: after a burst the memory goes back to the system.
func TestKeepMemory(t *testing.T) {
	if gogc, ok := os.LookupEnv("GOGC"); ok { // which would have the last word
		os.Unsetenv("GOGC")
		defer os.Setenv("GOGC", gogc)
	}
	was := debug.SetGCPercent(100)
	defer debug.SetGCPercent(was)
	released := func() uint64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	burst(64)
	before := released()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { keepMemory(ctx, 10*time.Millisecond) })
	defer wg.Wait()
	defer cancel()
	for deadline := time.Now().Add(10 * time.Second); released() < before+48<<20; {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes were given back before, %d are now", before, released())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// burst fills that many MB, of which nothing is left.
func burst(mb int) {
	held := make([][]byte, mb)
	for i := range held {
		held[i] = make([]byte, 1<<20)
		for at := 0; at < len(held[i]); at += 4096 {
			held[i][at] = 1
		}
	}
}
