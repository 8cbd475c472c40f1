package fleet_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/fleet/fleettest"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

func TestEvaluate(t *testing.T) {
	in := fleettest.Input(fleettest.Files(5, 5), 0)
	p, err := fleet.Evaluate(in)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := plan.Canonical(p)
	t.Log(string(b))
}

func TestEvaluateDigestIgnoresFileOrder(t *testing.T) {
	files := fleettest.Files(20, 20)
	files = append(files, fleet.File{Path: "pools/site-00000/more.cue", Data: []byte("package fleet\n\npool: nodes: extra: arch: \"arm\"\n")})
	in := fleettest.Input(files, 0)
	want, err := fleet.Evaluate(in)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		r.Shuffle(len(in.Files), func(i, j int) { in.Files[i], in.Files[j] = in.Files[j], in.Files[i] })
		got, err := fleet.Evaluate(in)
		if err != nil {
			t.Fatal(err)
		}
		if got.Digest() != want.Digest() {
			t.Fatalf("digest %s, want %s", got.Digest(), want.Digest())
		}
	}
}

func TestProblems(t *testing.T) {
	for _, c := range fleettest.AllBroken() {
		t.Run(c.Name, func(t *testing.T) {
			_, err := fleet.Evaluate(fleettest.Input(c.Files(), 0))
			var ps fleet.Problems
			if !errors.As(err, &ps) {
				t.Fatalf("got %v, want Problems", err)
			}
			if ps.Error() != c.Want {
				t.Errorf("got  %s\nwant %s", ps, c.Want)
			}
		})
	}
}
