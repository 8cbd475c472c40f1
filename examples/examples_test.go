package examples_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

var update = flag.Bool("update", false, "write the golden plans anew")

const repo = "fleet-repo"

// TestGoldenPlans evaluates the example's pools: their plans are those in testdata.
func TestGoldenPlans(t *testing.T) {
	tree := fleet.Dir(repo)
	names, err := fleet.PoolNames(tree)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"cdn-frankfurt", "cloud-west", "factory-turin", "store-berlin", "store-lisbon"}; !slices.Equal(names, want) {
		t.Fatalf("pools %v, want %v", names, want)
	}
	var pools []*plan.Pool
	for _, name := range names {
		in, err := fleet.Load(tree, "kelp", name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := fleet.Evaluate(in)
		if err != nil {
			t.Fatal(err)
		}
		pools = append(pools, p)
		compare(t, filepath.Join("testdata", name+".json"), p)
	}
	if ps := fleet.Check(pools); len(ps) > 0 {
		t.Fatal(ps)
	}
}

func compare(t *testing.T, golden string, p *plan.Pool) {
	t.Helper()
	got, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("pool %s is not what %s says; go test ./examples -update writes it anew. Got:\n%s", p.Name, golden, got)
	}
}

// TestVendored checks that the example has the schemas and guardrails of this commit.
func TestVendored(t *testing.T) {
	files, err := fleet.Vendored()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		got, err := os.ReadFile(filepath.Join(repo, f.Path))
		if err != nil || !bytes.Equal(got, f.Data) {
			t.Errorf("%s is not of this commit (%v): run holdfast init examples/fleet-repo --update", f.Path, err)
		}
	}
}

func TestTrust(t *testing.T) {
	files, err := trust.ReadFS(os.DirFS(filepath.Join(repo, "trust")))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := trust.Parse(files)
	if err != nil {
		t.Fatal(err)
	}
	if err := parsed.CheckRecovery(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"trust/policy.json": "root", "policy/policy.cue": "root", "cue.mod/module.cue": "root", "fleet.cue": "operators", "pools/store-berlin/pool.cue": "operators", "pools/factory-turin/pool.cue": "turin"} {
		if got, ok := parsed.RoleOf(path); !ok || got != want {
			t.Errorf("%s belongs to %s, want %s", path, got, want)
		}
	}
}
