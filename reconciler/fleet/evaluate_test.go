package fleet_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/fleet/fleettest"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// TestEvaluate has one pool in full: its settings come from the fleet, the pool, a profile and the node itself.
func TestEvaluate(t *testing.T) {
	p, err := fleet.Evaluate(fleettest.Input(fleettest.Files(2, 2), 0))
	if err != nil {
		t.Fatal(err)
	}
	got, err := plan.Canonical(p)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"annotations":{"kelp.example/contact":"store@kelp.example"},"displayName":"Site 0","fleet":"kelp","labels":{"kelp.example/brand":"kelp","topology.kubernetes.io/region":"eu-west"},"name":"site-00000","nodes":[{"agent":{"freshness":"720h0m0s","limits":{"cpu":"30s","memoryMB":256,"repoMB":512},"pollInterval":"1m0s"},"annotations":{"kelp.example/contact":"store@kelp.example"},"arch":"amd64","fleet":"kelp","hardware":{"cpus":16,"memoryMB":65536,"model":"R200","serial":"S-1","vendor":"Acme"},"labels":{"kelp.example/brand":"kelp","kelp.example/role":"server","topology.kubernetes.io/region":"eu-west"},"name":"site-00000-server","pool":"site-00000"},{"agent":{"freshness":"720h0m0s","limits":{"cpu":"30s","memoryMB":256,"repoMB":512},"pollInterval":"1m0s"},"annotations":{"kelp.example/contact":"store@kelp.example"},"arch":"arm64","fleet":"kelp","hardware":{"cpus":4,"memoryMB":4096,"model":"T1","vendor":"Acme"},"labels":{"kelp.example/brand":"kelp","kelp.example/role":"till","topology.kubernetes.io/region":"eu-west"},"name":"site-00000-till-1","pool":"site-00000","taints":[{"effect":"NoSchedule","key":"kelp.example/till","value":"true"}]}],"type":"Edge"}`
	if string(got) != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
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
