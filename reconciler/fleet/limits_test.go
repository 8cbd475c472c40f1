package fleet_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/fleet/fleettest"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

// greedy are files that take more than any pool may.
var greedy = map[string]string{
	"doubling": `package fleet

import "strings"

_a: strings.Repeat("x", 1000000)
_b: _a + _a + _a + _a + _a + _a + _a + _a
_c: _b + _b + _b + _b + _b + _b + _b + _b
_d: _c + _c + _c + _c + _c + _c + _c + _c
pool: displayName: _d
`,
	"billion laughs": `package fleet

_a: ["x", "x", "x", "x", "x", "x", "x", "x", "x", "x"]
_b: [for i in _a for j in _a for k in _a {i + j + k}]
_c: [for i in _b for j in _b for k in _b {i + j + k}]
pool: displayName: _c[0]
`,
}

func TestEvaluationLimits(t *testing.T) {
	lim := sandbox.Limits{MemoryMB: 192, CPU: time.Second, Timeout: 30 * time.Second}
	for name, text := range greedy {
		t.Run(name, func(t *testing.T) {
			files := append(fleettest.Files(1, 1), fleet.File{Path: "pools/site-00000/greedy.cue", Data: []byte(text)})
			_, err := fleet.Call(t.Context(), lim, fleettest.Input(files, 0))
			var over *fleet.LimitError
			if !errors.As(err, &over) || over.Pool != "site-00000" || over.StableReason() != condition.ReasonEvaluationLimit {
				t.Fatalf("got %v, want a LimitError", err)
			}
			if !errors.Is(err, sandbox.ErrMemory) && !errors.Is(err, sandbox.ErrCPU) {
				t.Fatalf("got %v: it does not say which limit", err)
			}
		})
	}
}

// TestSurveyBlamesTheGreedyPool has one greedy pool in a batch: the others get their plans.
func TestSurveyBlamesTheGreedyPool(t *testing.T) {
	files := append(fleettest.Files(8, 2), fleet.File{Path: "pools/site-00002/greedy.cue", Data: []byte(greedy["billion laughs"])})
	dir := t.TempDir()
	if err := fleettest.Write(dir, files); err != nil {
		t.Fatal(err)
	}
	s := &fleet.Survey{Fleet: "kelp", Limits: sandbox.Limits{MemoryMB: 192, CPU: time.Second}, Memo: fleet.OpenMemo(t.TempDir(), fleet.DefaultMemoBytes)}
	for range 2 { // what went over a limit is not remembered: it is told again
		var got []string
		names, err := fleet.PoolNames(fleet.Dir(dir))
		if err != nil {
			t.Fatal(err)
		}
		ps, err := s.Pools(t.Context(), fleet.Dir(dir), names, func(p *plan.Pool) { got = append(got, p.Name) })
		if err != nil {
			t.Fatal(err)
		}
		if len(ps) != 1 || ps[0].File != "pools/site-00002" || !strings.HasPrefix(ps[0].Message, "takes too much to evaluate: fleet-evaluate: out of ") {
			t.Fatalf("got %v", ps)
		}
		if len(got) != 3 {
			t.Fatalf("plans of %v", got)
		}
	}
}

func TestCall(t *testing.T) {
	in := fleettest.Input(fleettest.Files(3, 3), 0)
	want, err := fleet.Evaluate(in)
	if err != nil {
		t.Fatal(err)
	}
	got, err := fleet.Call(t.Context(), fleet.DefaultLimits(), in)
	if err != nil || got.Digest() != want.Digest() {
		t.Fatalf("got %+v, %v", got, err)
	}
	broken := fleettest.AllBroken()[0]
	_, err = fleet.Call(t.Context(), fleet.DefaultLimits(), fleettest.Input(broken.Files(), 0))
	var ps fleet.Problems
	if !errors.As(err, &ps) || ps.Error() != broken.Want || ps.StableReason() != condition.ReasonInvalidFleet {
		t.Fatalf("got %v", err)
	}
}
