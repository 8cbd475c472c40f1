//go:build bench

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-dev/holdfast/edgeagent"
	"os"
)

// cost is what one agent of a crowd costs.
type cost struct {
	// heapKB and anonKB are memory of the process, less what it had before the first agent.
	heapKB, anonKB float64
	// startAPI and startGit are requests from the start until all agents are ready, changeAPI and changeGit those of one change.
	startAPI, startGit, changeAPI, changeGit float64
	// idleAPI and idleGit are requests in a minute in which nothing changes.
	idleAPI, idleGit float64
}

// BenchmarkCrowd runs 50 agents, then 500, in one process against one Git server and one API server: what an agent costs may not
// depend on how many there are. It runs once, whatever b.N.
func BenchmarkCrowd(b *testing.B) {
	for _, agents := range []int{50, 500} {
		b.Run(fmt.Sprintf("agents=%d", agents), func(b *testing.B) {
			c := crowd(b, agents)
			b.ReportMetric(c.heapKB, "heap-KB/agent")
			b.ReportMetric(c.anonKB, "anon-KB/agent")
			b.ReportMetric(c.startAPI, "start-api-requests/agent")
			b.ReportMetric(c.startGit, "start-git-requests/agent")
			b.ReportMetric(c.changeAPI, "change-api-requests/agent")
			b.ReportMetric(c.changeGit, "change-git-requests/agent")
			b.ReportMetric(c.idleAPI, "idle-api-requests/agent/minute")
			b.ReportMetric(c.idleGit, "idle-git-requests/agent/minute")
			b.ReportMetric(0, "ns/op") // a time would say nothing
		})
	}
}

// crowdPoll is how often the agents of a crowd poll.
const crowdPoll = time.Minute

func crowd(b *testing.B, agents int) cost {
	s := newSite(b, agents, crowdPoll)
	states := enrollAll(b, s, agents)
	heap, anon := memoryNow(b)
	api, git := total(s.apiRequests(b)), len(s.git.Requests())
	since := func() (float64, float64) {
		nowAPI, nowGit := total(s.apiRequests(b)), len(s.git.Requests())
		defer func() { api, git = nowAPI, nowGit }()
		return float64(nowAPI-api) / float64(agents), float64(nowGit-git) / float64(agents)
	}
	stop := runAll(b, states)
	defer stop()
	for _, state := range states {
		waitReady(b, edgeagent.Control{State: state})
	}
	settle(b, s)
	var c cost
	c.startAPI, c.startGit = since()

	s.relabel("changed")
	until(b, 10*time.Minute, "every node has the new label", func() error {
		for i := range agents {
			if got, err := s.label(b.Context(), nodeName(i)); err != nil || got != "changed" {
				return fmt.Errorf("node %s has %q: %v", nodeName(i), got, err)
			}
		}
		return nil
	})
	settle(b, s)
	c.changeAPI, c.changeGit = since()

	pause(b, 2*crowdPoll)
	c.idleAPI, c.idleGit = since()
	c.idleAPI, c.idleGit = c.idleAPI/2, c.idleGit/2
	nowHeap, nowAnon := memoryNow(b)
	c.heapKB, c.anonKB = (nowHeap-heap)/float64(agents), (nowAnon-anon)/float64(agents)
	return c
}

// enrollAll enrols every node, a few at a time, and gives the state folders.
func enrollAll(b *testing.B, s *site, agents int) []string {
	b.Helper()
	// Sockets lie in these folders, and their paths are bounded; a benchmark's own folder is too deep.
	dir, err := os.MkdirTemp("", "crowd")
	check(b, err)
	b.Cleanup(func() { check(b, os.RemoveAll(dir)) })
	states := make([]string, agents)
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(2 * runtime.NumCPU())
	for i := range states {
		states[i] = filepath.Join(dir, fmt.Sprint(i))
		group.Go(func() error { return s.enroll(ctx, i, states[i]) })
	}
	check(b, group.Wait())
	return states
}

// runAll runs an agent on each state folder in this process, and gives what ends them all.
func runAll(b *testing.B, states []string) func() {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	stop := func() {
		cancel()
		wg.Wait()
	}
	for _, state := range states {
		agent, err := edgeagent.Open(edgeagent.Options{
			Config: edgeagent.Config{State: state, Address: edgeagent.NoAddress}, Version: "bench"})
		if err != nil {
			stop()
			b.Fatal(err)
		}
		wg.Go(func() {
			if err := agent.Run(ctx); err != nil {
				b.Error(err)
			}
			if err := agent.Close(); err != nil {
				b.Error(err)
			}
		})
	}
	return stop
}

// settle waits until the nodes have asked nothing of the API server for five seconds.
func settle(b *testing.B, s *site) {
	b.Helper()
	last, since := -1, time.Now()
	until(b, 5*time.Minute, "the API server is quiet", func() error {
		if now := total(s.apiRequests(b)); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < 5*time.Second {
			return fmt.Errorf("%d requests so far", last)
		}
		pause(b, 200*time.Millisecond)
		return nil
	})
}

// pause lets time pass; what is measured is what happens by itself meanwhile.
func pause(b *testing.B, length time.Duration) {
	b.Helper()
	select {
	case <-b.Context().Done():
		b.Fatal(b.Context().Err())
	case <-time.After(length):
	}
}

// memoryNow gives the heap in use and the anonymous memory of this process, after a collection.
func memoryNow(b *testing.B) (heapKB, anonKB float64) {
	b.Helper()
	debug.FreeOSMemory()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapInuse) / 1024, memoryKB(b, os.Getpid(), "RssAnon")
}
