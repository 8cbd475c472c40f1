package verify_test

import (
	"fmt"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/verify"
	vt "github.com/holdfast-dev/holdfast/policy/verify/verifytest"
)

// fleetOf gives the files of a fleet of that many pools.
func fleetOf(pools int) vt.Files {
	files := vt.Files{"fleet.cue": "package fleet\n"}
	for i := range pools {
		files[fmt.Sprintf("pools/p%05d/pool.cue", i)] = fmt.Sprintf("package fleet\n// pool %d\n", i)
	}
	return files
}

// BenchmarkVerify1000 verifies 1,000 commits of a first-parent path, each of which changes one pool and every tenth of which is
// a forge's merge with a countersignature. The bound is one second.
func BenchmarkVerify1000(b *testing.B) {
	for _, pools := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprintf("pools=%d", pools), func(b *testing.B) {
			r := vt.New(b, vt.InMemory(), vt.WithPolicy(policy()), vt.WithFiles(fleetOf(pools)))
			s := enrol(b, r)
			for i := range 1000 {
				change := vt.Files{fmt.Sprintf("pools/p%05d/pool.cue", i%pools): fmt.Sprintf("package fleet\n// change %d\n", i)}
				if i%10 == 0 {
					r.Countersign(r.MergeRequest(change, nil), "bob")
				} else {
					r.Push("alice", change)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				v, err := verify.Verify(b.Context(), r, verify.Request{State: s, Tip: r.Tip(), Notes: r.Notes()})
				if err != nil || !v.Accepted || len(v.Commits) != 1000 {
					b.Fatalf("%+v, %v", v, err)
				}
			}
		})
	}
}

// BenchmarkEnrol checks a whole tree, as enrolment does once.
func BenchmarkEnrol(b *testing.B) {
	r := vt.New(b, vt.InMemory(), vt.WithPolicy(policy()), vt.WithFiles(fleetOf(10_000)))
	for b.Loop() {
		enrol(b, r)
	}
}
