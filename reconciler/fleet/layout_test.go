package fleet_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/fleet/fleettest"
)

// TestLayout has fleet repos whose CUE is fine and whose layout is not.
func TestLayout(t *testing.T) {
	const pool = "pools/site-00000/pool.cue"
	without := func(path string) []fleet.File {
		var out []fleet.File
		for _, f := range fleettest.Files(2, 2) {
			if f.Path != path {
				out = append(out, f)
			}
		}
		return out
	}
	for _, c := range []struct {
		name  string
		files []fleet.File
		pool  string
		want  string
	}{
		{
			"name is not the folder's", fleettest.Edit(fleettest.Files(2, 2), pool, `name:        "site-00000"`, `name: "site-1"`), "site-00000",
			`pools/site-00000/pool.cue:6:2: pool.name: is "site-1", but the folder is pools/site-00000: they must be the same`,
		},
		{
			"other package", fleettest.Edit(fleettest.Files(2, 2), pool, "package fleet", "package site"), "site-00000",
			`pools/site-00000/pool.cue:1:9: package site is not the root's package, so the pool inherits nothing: name it as fleet.cue does`,
		},
		{
			"no pool", []fleet.File{{Path: pool, Data: []byte("package fleet\n\npol: name: \"x\"\n")}}, "site-00000",
			`pools/site-00000: declares no pool: write pool: name: "site-00000" and what else it is`,
		},
		{"no file", without(pool), "site-00000", `pools/site-00000: has no .cue file: write one that says what pool is, or remove the folder`},
		{"no such pool", fleettest.Files(2, 2), "nowhere", `pools/nowhere: has no .cue file: write one that says what pool is, or remove the folder`},
		{"no module", without("cue.mod/module.cue"), "site-00000", `cue.mod/module.cue: is missing: run holdfast init to make a fleet repo here`},
		{
			"nested CUE", append(fleettest.Files(2, 2), fleet.File{Path: "pools/site-00000/tills/x.cue", Data: []byte("package fleet\n")}), "site-00000",
			`pools/site-00000/tills/x.cue: is not read: CUE files of a pool are in pools/site-00000 itself`,
		},
		{
			"no guardrails", fleettest.Edit(fleettest.Edit(fleettest.Files(2, 2), "fleet.cue", "\t\"holdfast.dev/policy/guardrails\"\n", ""), "fleet.cue", "guardrails.rules\n", ""), "site-00000",
			`fleet.cue: does not import "holdfast.dev/policy/guardrails": import it and write guardrails.rules at the top level, or nothing is checked`,
		},
		{
			"schemas not vendored", without("cue.mod/pkg/holdfast.dev/schemas/repo.cue"), "site-00000",
			`fleet.cue:10:9: undefined field: #Repo`,
		},
		{
			"a module of elsewhere", append(fleettest.Edit(fleettest.Files(2, 2), "cue.mod/module.cue", "language:", "deps: \"example.com/x@v0\": v: \"v0.1.0\"\nlanguage:"),
				fleet.File{Path: "pools/site-00000/x.cue", Data: []byte("package fleet\n\nimport \"example.com/x\"\n\npool: displayName: x.name\n")}), "site-00000",
			`pools/site-00000/x.cue:3:8: import failed: cannot find package "example.com/x": cannot fetch example.com/x@v0.1.0: module example.com/x@v0 is not in the fleet repo: nodes have no module registry; put its files under cue.mod/pkg/example.com/x`,
		},
		{"root alone", append(fleettest.Files(2, 2), fleet.File{Path: "x.cue", Data: []byte("package fleet\n\npool: name: \"a\"\n")}), "", `x.cue:3:1: pool: the root declares a pool: write it in pools/<name>`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if len(c.files) == 1 {
				c.files = append(c.files, without(pool)...)
			}
			_, err := fleet.Evaluate(fleet.Input{Fleet: "kelp", Pool: c.pool, Files: c.files})
			var ps fleet.Problems
			if !errors.As(err, &ps) {
				t.Fatalf("got %v, want Problems", err)
			}
			if got := ps.Error(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if strings.Contains(ps.Error(), "/proc/") {
				t.Error("the error tells where CUE believes the repo to be")
			}
		})
	}
}

func TestNeeded(t *testing.T) {
	for path, want := range map[string]bool{
		"fleet.cue": true, "data.json": true, "README.md": false, ".hidden.cue": false, "_draft.cue": false,
		"cue.mod/module.cue": true, "cue.mod/pkg/holdfast.dev/schemas/repo.cue": true,
		"policy/a/b.cue": true, "trust/policy.json": false, "hooks/x.cue": false,
		"pools/a/pool.cue": true, "pools/a/nodes.yaml": true, "pools/a/.x/y.cue": false, "pools/ab/pool.cue": false, "pools/x.cue": false,
	} {
		if got := fleet.Needed("a", path); got != want {
			t.Errorf("Needed(a, %s) = %v", path, got)
		}
	}
	if fleet.Needed("", "pools/a/pool.cue") {
		t.Error("the root alone needs no pool's files")
	}
}

// TestEmbeddedData reads a pool's nodes from a data file, as cue does.
func TestEmbeddedData(t *testing.T) {
	files := append(fleettest.Files(1, 1),
		fleet.File{Path: "pools/site-00000/nodes.json", Data: []byte(`{"from-json": {"arch": "riscv64"}}`)},
		fleet.File{Path: "pools/site-00000/nodes.cue", Data: []byte("@extern(embed)\npackage fleet\n\npool: nodes: _ @embed(file=nodes.json)\n")})
	p, err := fleet.Evaluate(fleettest.Input(files, 0))
	if err != nil {
		t.Fatal(err)
	}
	if n := p.Node("from-json"); n == nil || n.Arch != "riscv64" {
		t.Fatalf("got %+v", n)
	}
}
