package revision_test

import (
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/fleet/fleettest"
)

// BenchmarkPush is what a push to one pool costs a node: poll, fetch, verdict, plan, each in its child.
func BenchmarkPush(b *testing.B) {
	files := fleetFiles(1000, 20)
	w := newWorld(b, files)
	state := w.enrol()
	path := "pools/" + fleettest.PoolName(7) + "/pool.cue"
	before := anonymous(b)
	text := files[path]
	for b.Loop() {
		b.StopTimer()
		text += "\n// one more\n"
		tip := w.repo.Push("alice", verifytest.Files{path: text})
		b.StartTimer()
		refs := w.pull()
		v, err := w.Verify(b.Context(), state, refs, time.Time{}, nil)
		if err != nil || !v.Accepted {
			b.Fatalf("%+v, %v", v, err)
		}
		state = v.State
		if _, err := w.Pool(b.Context(), tip, fleettest.PoolName(7)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(anonymous(b)-before)/(1<<20), "parent-grew-MB")
}

// BenchmarkAllPools is what a hub pays for a fleet of 100 pools that it sees for the first time.
func BenchmarkAllPools(b *testing.B) {
	w := newWorld(b, fleetFiles(2000, 20))
	w.enrol()
	w.cfg.MaxPools, w.cfg.Ahead = 1000, 32
	for b.Loop() {
		w.Follower = w.follower()
		names, err := w.Pools(b.Context(), w.repo.Tip())
		if err != nil || len(names) != 100 {
			b.Fatalf("%d pools, %v", len(names), err)
		}
		for _, name := range names {
			if _, err := w.Pool(b.Context(), w.repo.Tip(), name); err != nil {
				b.Fatal(err)
			}
		}
	}
}
