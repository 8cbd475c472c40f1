//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/holdfast-dev/holdfast/edgeagent"
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

// crowdPoll is how often the agents of a crowd poll: twice as often as by default, to have half of the waiting.
const crowdPoll = 30 * time.Second

// atOnce is how many agents start at the same time. On a fleet each has a machine of its own: here more would only
// wait for each other's children.
var atOnce = 2 * runtime.NumCPU()

func crowd(b *testing.B, agents int) cost {
	step := progress(b)
	s := newSite(b, agents, crowdPoll)
	states := enrollAll(b, s, agents)
	step("enrolled")
	heap, anon := memoryNow(b)
	api, git := s.apiRequests(b), len(s.git.Requests())
	since := func() (float64, float64) {
		nowAPI, nowGit := s.apiRequests(b), len(s.git.Requests())
		defer func() { api, git = nowAPI, nowGit }()
		return float64(nowAPI-api) / float64(agents), float64(nowGit-git) / float64(agents)
	}
	stop := runAll(b, states)
	defer stop()
	settle(b, s)
	step("started")
	var c cost
	c.startAPI, c.startGit = since()

	s.relabel("changed")
	waitLabels(b, s, agents, "changed")
	settle(b, s)
	step("changed")
	c.changeAPI, c.changeGit = since()

	const idle = 2 * crowdPoll
	pause(b, idle)
	step("watched idle")
	c.idleAPI, c.idleGit = since()
	c.idleAPI, c.idleGit = c.idleAPI/idle.Minutes(), c.idleGit/idle.Minutes()
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
	group.SetLimit(atOnce)
	for i := range states {
		states[i] = filepath.Join(dir, fmt.Sprint(i))
		group.Go(func() error { return s.enroll(ctx, i, states[i]) })
	}
	check(b, group.Wait())
	return states
}

// runAll runs an agent on each state folder in this process, waits until all are ready, and gives what ends them.
func runAll(b *testing.B, states []string) func() {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	stop := func() {
		cancel()
		running.Wait()
	}
	var starting errgroup.Group
	starting.SetLimit(atOnce)
	for _, state := range states {
		starting.Go(func() error {
			agent, err := edgeagent.Open(edgeagent.Options{
				Config: edgeagent.Config{State: state, Address: edgeagent.NoAddress, ProxyAddress: edgeagent.NoAddress, PodAddress: edgeagent.NoAddress}, Version: "bench"})
			if err != nil {
				return err
			}
			running.Go(func() {
				if err := errors.Join(agent.Run(ctx), agent.Close()); err != nil {
					b.Error(err)
				}
			})
			return ready(ctx, edgeagent.Control{State: state})
		})
	}
	if err := starting.Wait(); err != nil {
		stop()
		b.Fatal(err)
	}
	return stop
}

// waitLabels waits until every node has the label that relabel changes. A node that has it is not asked again, so that what is
// measured is the agents' work and not this.
func waitLabels(b *testing.B, s *site, nodes int, want string) {
	b.Helper()
	next := 0
	until(b, 10*time.Minute, "every node has the new label", func() error {
		for ; next < nodes; next++ {
			if got, err := s.label(b.Context(), nodeName(next)); err != nil || got != want {
				return fmt.Errorf("node %s has %q: %v", nodeName(next), got, err)
			}
		}
		return nil
	})
}

// progress gives a function that says how long a step took, and the processor time of it: of this process, whose agents
// and benchmark are one, and of its children, which are the agents' and the Git server's.
func progress(b *testing.B) func(what string) {
	began, own, children := time.Now(), used(b, unix.RUSAGE_SELF), used(b, unix.RUSAGE_CHILDREN)
	return func(what string) {
		now, nowOwn, nowChildren := time.Now(), used(b, unix.RUSAGE_SELF), used(b, unix.RUSAGE_CHILDREN)
		b.Logf("%s in %.1f s, with %.1f s of processor time here and %.1f s in children", what,
			now.Sub(began).Seconds(), (nowOwn - own).Seconds(), (nowChildren - children).Seconds())
		began, own, children = now, nowOwn, nowChildren
	}
}

// used gives the processor time of this process, or of its children that ended.
func used(b *testing.B, who int) time.Duration {
	b.Helper()
	var u unix.Rusage
	check(b, unix.Getrusage(who, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// settle waits until the nodes have asked nothing of the API server for five seconds.
func settle(b *testing.B, s *site) {
	b.Helper()
	last, since := -1, time.Now()
	until(b, 5*time.Minute, "the API server is quiet", func() error {
		if now := s.apiRequests(b); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < 5*time.Second {
			return fmt.Errorf("%d requests so far", last)
		}
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
