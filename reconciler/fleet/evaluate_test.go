package fleet_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

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
	const want = `{"annotations":{"kelp.example/contact":"store@kelp.example"},"displayName":"Site 0","fleet":"kelp","labels":{"kelp.example/brand":"kelp","topology.kubernetes.io/region":"eu-west"},"name":"site-00000","nodes":[{"agent":{"freshness":"720h0m0s","limits":{"cpu":"30s","memoryMB":256,"repoMB":512},"pollInterval":"1m0s","proxy":{"cacheMB":512}},"annotations":{"kelp.example/contact":"store@kelp.example"},"arch":"amd64","fleet":"kelp","hardware":{"cpus":16,"memoryMB":65536,"model":"R200","serial":"S-1","vendor":"Acme"},"labels":{"kelp.example/brand":"kelp","kelp.example/role":"server","topology.kubernetes.io/region":"eu-west"},"name":"site-00000-server","pool":"site-00000"},{"agent":{"freshness":"720h0m0s","limits":{"cpu":"30s","memoryMB":256,"repoMB":512},"pollInterval":"1m0s","proxy":{"cacheMB":512}},"annotations":{"kelp.example/contact":"store@kelp.example"},"arch":"arm64","fleet":"kelp","hardware":{"cpus":4,"memoryMB":4096,"model":"T1","vendor":"Acme"},"labels":{"kelp.example/brand":"kelp","kelp.example/role":"till","topology.kubernetes.io/region":"eu-west"},"name":"site-00000-till-1","pool":"site-00000","taints":[{"effect":"NoSchedule","key":"kelp.example/till","value":"true"}]}],"type":"Edge"}`
	if string(got) != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

// TestProxySettings: the fleet's settings of the proxy are defaults, what is never cached adds up, and a pool says how long its
// nodes keep their pods.
func TestProxySettings(t *testing.T) {
	files := append(fleettest.Files(2, 2),
		fleet.File{Path: "more.cue", Data: []byte(`package fleet

fleet: {
	autonomyDuration: "72h"
	agent: proxy: {neverCache: events: true, upstreams: ["https://api.example.com:6443"]}
}
`)},
		fleet.File{Path: "pools/site-00000/more.cue", Data: []byte(`package fleet

pool: {
	autonomyDuration: "168h"
	agent: proxy: neverCache: {"widgets.example.com": true, secrets: false}
	nodes: "site-00000-server": agent: proxy: {cacheMB: 1024, upstreams: ["https://10.0.0.1:6443", "https://[fd00::1]:6443"]}
}
`)})
	p, err := fleet.Evaluate(fleettest.Input(files, 0))
	if err != nil {
		t.Fatal(err)
	}
	never := []string{"events", "widgets.example.com"}
	for name, want := range map[string]plan.Proxy{
		"site-00000-server": {CacheMB: 1024, NeverCache: never, Upstreams: []string{"https://10.0.0.1:6443", "https://[fd00::1]:6443"}},
		"site-00000-till-1": {CacheMB: 512, NeverCache: never, Upstreams: []string{"https://api.example.com:6443"}},
	} {
		if got := p.Node(name).Agent.Proxy; !reflect.DeepEqual(got, want) {
			t.Errorf("node %s has %+v, want %+v", name, got, want)
		}
	}
	if p.AutonomyDuration != plan.Duration(168*time.Hour) {
		t.Errorf("autonomyDuration is %s", p.AutonomyDuration)
	}
}

// TestProxySettingsThatAreWrong names each mistake.
func TestProxySettingsThatAreWrong(t *testing.T) {
	for name, cue := range map[string]string{
		"a plaintext API server":  `agent: proxy: upstreams: ["http://api.example.com:6443"]`,
		"an API server no port":   `agent: proxy: upstreams: ["https://api.example.com"]`,
		"no name of a resource":   `agent: proxy: neverCache: "Pods/status": true`,
		"a cache of a megabyte":   `agent: proxy: cacheMB: 1`,
		"a duration without unit": `autonomyDuration: "72"`,
		"a field that is not":     `agent: proxy: cacheSize: 1`,
	} {
		files := append(fleettest.Files(2, 2), fleet.File{Path: "pools/site-00000/more.cue", Data: []byte("package fleet\n\npool: {" + cue + "}\n")})
		var ps fleet.Problems
		if _, err := fleet.Evaluate(fleettest.Input(files, 0)); !errors.As(err, &ps) {
			t.Errorf("%s: got %v, want Problems", name, err)
		} else if ps[0].File != "pools/site-00000/more.cue" {
			t.Errorf("%s: the problem is said to be in %s", name, ps[0].File)
		}
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
