//go:build bench

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/fleet/fleettest"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

// perPool is how many nodes each pool of the benchmarks has.
const perPool = 20

// benchChild evaluates in a child, and reports what that cost there.
const benchChild = "bench-evaluate"

type cost struct {
	Nodes    int
	Duration time.Duration
	CPU      time.Duration
	AnonKB   int64
}

// extraChildren gives TestMain the functions that benchmarks run in children of their own.
func extraChildren() map[string]sandbox.Func {
	return map[string]sandbox.Func{benchChild: sandbox.Serve(evaluateAndWeigh)}
}

func evaluateAndWeigh(_ context.Context, in fleet.Input) (cost, error) {
	start := time.Now()
	p, err := fleet.Evaluate(in)
	if err != nil {
		return cost{}, err
	}
	c := cost{Nodes: len(p.Nodes), Duration: time.Since(start)}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return cost{}, err
	}
	c.CPU = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return cost{}, err
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); f[0] == "RssAnon:" {
			c.AnonKB, err = strconv.ParseInt(f[1], 10, 64)
		}
	}
	return c, err
}

// BenchmarkEvaluateOwnPool is what a node pays for its plan, in fleets of four sizes: one child, from its start to its
// end. evaluate-ms is the evaluation in it, cpu-ms the child's processor time up to then, its start included.
func BenchmarkEvaluateOwnPool(b *testing.B) {
	for _, nodes := range []int{100, 1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			dir := b.TempDir()
			if err := fleettest.Write(dir, fleettest.Files(nodes, perPool)); err != nil {
				b.Fatal(err)
			}
			pool := fleettest.PoolName(fleettest.Pools(nodes, perPool) / 2)
			var evaluate, cpu time.Duration
			var anon int64
			for b.Loop() {
				in, err := fleet.Load(fleet.Dir(dir), "kelp", pool)
				if err != nil {
					b.Fatal(err)
				}
				c, err := sandbox.Call[cost](b.Context(), benchChild, fleet.DefaultLimits(), in)
				if err != nil {
					b.Fatal(err)
				}
				if c.Nodes != perPool {
					b.Fatalf("%d nodes", c.Nodes)
				}
				evaluate += c.Duration
				cpu += c.CPU
				anon = max(anon, c.AnonKB)
			}
			b.ReportMetric(evaluate.Seconds()*1000/float64(b.N), "evaluate-ms")
			b.ReportMetric(cpu.Seconds()*1000/float64(b.N), "cpu-ms")
			b.ReportMetric(float64(anon)/1024, "anon-MB")
		})
	}
}

// BenchmarkSurvey evaluates a fleet of 10,000 nodes with nothing remembered, and again after a change to one pool.
// peak-MB is an upper bound: the most this process and the largest child were ever resident with, the child as often as
// there are children at a time.
func BenchmarkSurvey(b *testing.B) {
	const nodes = 10_000
	dir := b.TempDir()
	if err := fleettest.Write(dir, fleettest.Files(nodes, perPool)); err != nil {
		b.Fatal(err)
	}
	memo := b.TempDir()
	survey := func(b *testing.B) {
		m := fleet.OpenMemo(memo, fleet.DefaultMemoBytes)
		s := &fleet.Survey{Fleet: "kelp", Memo: m}
		t := fleet.Dir(dir)
		var check fleet.Checker
		got := 0
		names, err := fleet.PoolNames(t)
		if err != nil {
			b.Fatal(err)
		}
		ps, err := s.Pools(b.Context(), t, names, func(p *plan.Pool) {
			check.Add(p)
			got += len(p.Nodes)
		})
		if err := errors.Join(err, m.Close()); err != nil || len(ps) > 0 || len(check.Problems()) > 0 || got != nodes {
			b.Fatal(got, err, ps)
		}
	}
	b.Run("cold/nodes=10000", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			os.RemoveAll(memo)
			b.StartTimer()
			survey(b)
		}
		workers := float64(min(4, runtime.GOMAXPROCS(0)))
		b.ReportMetric(residentMB(b, syscall.RUSAGE_SELF)+workers*residentMB(b, syscall.RUSAGE_CHILDREN), "peak-MB")
	})
	b.Run("one-pool-changed/nodes=10000", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			extra := fmt.Sprintf("package fleet\n\npool: annotations: note: \"%d-%d\"\n", i, time.Now().UnixNano())
			if err := os.WriteFile(filepath.Join(dir, "pools", fleettest.PoolName(7), "note.cue"), []byte(extra), 0o644); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			survey(b)
		}
	})
}

// residentMB gives the most that this process, or any one of its children, was ever resident with.
func residentMB(b *testing.B, who int) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Maxrss) / 1024
}
