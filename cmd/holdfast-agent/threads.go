package main

import (
	"context"
	"os"
	"runtime"
	"syscall"
	"time"
)

const (
	// threadsEvery is how often it is looked how busy the agent is.
	threadsEvery = 500 * time.Millisecond
	// busyShare of a processor is where one thread becomes too few, quietShare where one is enough again if it stays so for quietLooks.
	busyShare, quietShare = 0.6, 0.3
	quietLooks            = 10
)

// threads decides how many threads run the agent's Go code: one, or as many as there are processors.
type threads struct {
	one   bool
	quiet int // looks in a row
}

// look takes the share of one processor that the agent used since the last look, and tells whether one is to be changed.
func (t *threads) look(share float64) (changed bool) {
	was := t.one
	switch {
	case share >= busyShare:
		t.one, t.quiet = false, 0
	case share >= quietShare:
		t.quiet = 0
	default:
		if t.quiet++; t.quiet >= quietLooks {
			t.one = true
		}
	}
	return t.one != was
}

// keepThreads has the agent run in one thread while that is enough, until ctx ends. With several, each request that comes and each
// answer that the API server gives wakes a second one, which finds nothing to do: a request through the proxy takes a quarter less
// processor time without. Once the agent is busy, as when it answers for the API server, it gets every processor. GOMAXPROCS in the
// environment has the last word.
func keepThreads(ctx context.Context, every time.Duration, used func() time.Duration) {
	if _, fixed := os.LookupEnv("GOMAXPROCS"); fixed || runtime.GOMAXPROCS(0) == 1 {
		return
	}
	defer runtime.SetDefaultGOMAXPROCS()
	tick := time.NewTicker(every)
	defer tick.Stop()
	t := threads{}
	before, at := used(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		after, now := used(), time.Now()
		if t.look(float64(after-before) / float64(now.Sub(at))) {
			if t.one {
				runtime.GOMAXPROCS(1)
			} else {
				runtime.SetDefaultGOMAXPROCS()
			}
		}
		before, at = after, now
	}
}

// processorTime is what this process used so far, or 0.
func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
