package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// memoryEvery is how often it is looked whether memory can be given back.
	memoryEvery = 5 * time.Second
	// calm is how many bytes an agent allocates at most in that time if little happens, selftests and a kubelet's renewals among it.
	calm = 32 << 20
	// worthReturning is for how many bytes a collection is worth its 5 to 10 ms of processor time.
	worthReturning = 2 << 20
	// headroom is how much the heap may grow before it is collected. What lives in it is 2 to 3 MB on an idle node: a busy agent that
	// collected it whenever it had doubled would need a sixth more processor time for each request.
	headroom = 8 << 20
	// mostPercent bounds how far headroom takes a small heap.
	mostPercent = 200
)

// heap is how the runtime's memory is, in bytes.
type heap struct {
	allocated uint64 // ever
	scanned   uint64 // what the last collection looked through: objects, stacks and globals
}

func readHeap() heap {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/globals:bytes"}, {Name: "/gc/scan/stack:bytes"}}
	metrics.Read(s)
	return heap{allocated: s[0].Value.Uint64(), scanned: s[1].Value.Uint64() + s[2].Value.Uint64() + s[3].Value.Uint64()}
}

// idle tells whether little happened since before, but something did since memory was given back.
func (h heap) idle(before, givenBack heap) bool {
	return h.allocated-before.allocated <= calm && h.allocated-givenBack.allocated > worthReturning
}

// percent is the GC percentage that gives the heap its headroom: 100, as is Go's default, once more than that lives in it.
func (h heap) percent() int {
	return int(min(max(headroom*100/max(h.scanned, 1), 100), mostPercent))
}

// keepMemory gives memory back after each burst, until ctx ends, and keeps a busy agent from collecting a heap of a few MB all the
// time. The runtime gives back too, but minutes later: a start, a list of a thousand pods or what the API offers would show for long in
// an agent that has nothing to do any more. GOGC in the environment has the last word on the percentage.
func keepMemory(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	_, fixed := os.LookupEnv("GOGC")
	set := 100
	var before, givenBack heap // the start is a burst, too
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		h := readHeap()
		if p := h.percent(); !fixed && (p > set+set/8 || p < set-set/8) { // to set it stops all goroutines for a moment
			debug.SetGCPercent(p)
			set = p
		}
		if h.idle(before, givenBack) {
			debug.FreeOSMemory()
			givenBack = readHeap()
		}
		before = h
	}
}
