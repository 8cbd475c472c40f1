package fleet

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/build"
	"cuelang.org/go/cue/load"
	"cuelang.org/go/mod/modfile"
	"cuelang.org/go/mod/module"
)

// mount is where CUE's loader believes the fleet repo to be. The loader also asks the disk, so it is a place that
// nobody can put files at.
const mount = "/proc/holdfast"

// poolsDir holds a folder for each pool.
const poolsDir = "pools/"

// Needed tells whether evaluating the pool reads the file: CUE and data files of the root, of cue.mod, of policy and of
// pools/<pool>, but none whose name, or folder's name, starts with "." or "_". It is what to export from a revision.
func Needed(pool, name string) bool {
	switch path.Ext(name) {
	case ".cue", ".json", ".yaml", ".yml", ".toml": // the latter for @embed
	default:
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part[:min(1, len(part))] == "." || part[:min(1, len(part))] == "_" {
			return false
		}
	}
	top, _, nested := strings.Cut(name, "/")
	return !nested || top == "cue.mod" || top == "policy" || pool != "" && strings.HasPrefix(name, poolsDir+pool+"/")
}

// loadInstance loads the package that `cue vet` would load in that folder: the folder's files and, by CUE's rule for
// parent folders, the root's. It sees the files given and nothing else.
func loadInstance(files []File, dir string) *build.Instance {
	cfg := &load.Config{
		Overlay:    make(map[string]load.Source, len(files)),
		Dir:        path.Join(mount, dir),
		ModuleRoot: mount,
		Registry:   noRegistry{},
		Env:        []string{},
	}
	for _, f := range files {
		cfg.Overlay[path.Join(mount, f.Path)] = load.FromBytes(f.Data)
	}
	return load.Instances([]string{"."}, cfg)[0]
}

// selectFiles gives the input's files that are needed, sorted, each path once.
func selectFiles(in Input) []File {
	var files []File
	for _, f := range in.Files {
		if Needed(in.Pool, f.Path) {
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return slices.CompactFunc(files, func(a, b File) bool { return a.Path == b.Path })
}

// checkLayout checks what CUE's loader would pass over in silence.
func checkLayout(pool string, files []File) Problems {
	var ps Problems
	if !slices.ContainsFunc(files, func(f File) bool { return f.Path == "cue.mod/module.cue" }) {
		ps = append(ps, Problem{File: "cue.mod/module.cue", Message: "is missing: run holdfast init to make a fleet repo here"})
	}
	if !slices.ContainsFunc(files, func(f File) bool { return inRoot(f.Path) }) {
		ps = append(ps, Problem{File: "fleet.cue", Message: "is missing: the root has no .cue file"})
	}
	if pool == "" {
		return ps
	}
	dir, own := poolsDir+pool, false
	for _, f := range files {
		rest, ok := strings.CutPrefix(f.Path, dir+"/")
		switch {
		case !ok || path.Ext(rest) != ".cue":
		case strings.Contains(rest, "/"):
			ps = append(ps, Problem{File: f.Path, Message: "is not read: CUE files of a pool are in " + dir + " itself"})
		default:
			own = true
		}
	}
	if !own {
		ps = append(ps, Problem{File: dir, Message: "has no .cue file: write one that says what pool is, or remove the folder"})
	}
	return ps
}

func inRoot(name string) bool { return path.Ext(name) == ".cue" && !strings.Contains(name, "/") }

// The packages every fleet repo takes in.
const (
	schemasPath    = "holdfast.dev/schemas"
	guardrailsPath = "holdfast.dev/policy/guardrails"
)

// checkPackage checks that the instance inherits the root, and that the root takes in schemas and guardrails.
func checkPackage(pool string, inst *build.Instance) Problems {
	imports, rooted := map[string]bool{}, false
	for _, f := range inst.Files {
		if name := repoPath(f.Filename); inRoot(name) {
			rooted = true
			for spec := range f.ImportSpecs() {
				imports[strings.Trim(spec.Path.Value, `"`)] = true
			}
		}
	}
	if !rooted {
		p := Problem{File: poolsDir + pool, Message: fmt.Sprintf("package %s is not the root's package, so the pool inherits nothing: name it as fleet.cue does", inst.PkgName)}
		if len(inst.Files) > 0 {
			p.at(packagePos(inst.Files[0]))
		}
		return Problems{p}
	}
	var ps Problems
	for _, c := range []struct{ path, embed string }{{schemasPath, "schemas.#Repo"}, {guardrailsPath, "guardrails.rules"}} {
		if !imports[c.path] {
			ps = append(ps, Problem{File: "fleet.cue", Message: fmt.Sprintf("does not import %q: import it and write %s at the top level, or nothing is checked", c.path, c.embed)})
		}
	}
	return ps
}

func packagePos(f *ast.File) position {
	for _, d := range f.Decls {
		if p, ok := d.(*ast.Package); ok {
			return positionOf(p.Name.Pos())
		}
	}
	return position{file: repoPath(f.Filename)}
}

// noRegistry is the module registry: there is none, because nodes evaluate with no network.
type noRegistry struct{}

func (noRegistry) refuse(module string) error {
	name, _, _ := strings.Cut(module, "@")
	return fmt.Errorf("module %s is not in the fleet repo: nodes have no module registry; put its files under cue.mod/pkg/%s", module, name)
}

func (r noRegistry) ModFile(_ context.Context, mv module.Version) (*modfile.File, error) {
	return nil, r.refuse(mv.Path())
}

func (r noRegistry) Fetch(_ context.Context, mv module.Version) (module.SourceLoc, error) {
	return module.SourceLoc{}, r.refuse(mv.Path())
}

func (r noRegistry) ModuleVersions(_ context.Context, path string) ([]string, error) {
	return nil, r.refuse(path)
}
