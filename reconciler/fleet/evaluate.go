package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// Evaluate gives the pool's plan. It is pure: it reads neither files nor network, and equal input gives equal plans
// whatever the order of the files. The error is Problems if the fleet repo is wrong. Without a pool the plan is nil.
func Evaluate(in Input) (*plan.Pool, error) {
	files := selectFiles(in)
	if ps := checkLayout(in.Pool, files); len(ps) > 0 {
		return nil, ps
	}
	dir := "."
	if in.Pool != "" {
		dir = poolsDir + in.Pool
	}
	inst := loadInstance(files, dir)
	src := newSources(dir, inst.Files)
	if inst.Err != nil {
		return nil, src.problems(inst.Err)
	}
	if ps := checkPackage(in.Pool, inst); len(ps) > 0 {
		return nil, ps
	}
	v := cuecontext.New(cuecontext.EvaluatorVersion(cuecontext.EvalV3)).BuildInstance(inst)
	value := v.LookupPath(cue.MakePath(cue.Str("pool")))
	if in.Pool == "" && value.Exists() {
		return nil, Problems{src.problem("pool", "the root declares a pool: write it in "+poolsDir+"<name>")}
	}
	// The options are those of `cue vet`.
	if err := v.Validate(cue.Attributes(true), cue.Definitions(true), cue.Hidden(true), cue.Concrete(true)); err != nil {
		return nil, src.problems(err)
	}
	switch {
	case in.Pool == "":
		return nil, nil
	case !value.Exists():
		return nil, Problems{{File: dir, Message: "declares no pool: write pool: name: " + fmt.Sprintf("%q", in.Pool) + " and what else it is"}}
	}
	w, err := readPool(value)
	if err != nil {
		return nil, Problems{src.problem("pool", "does not have the form of the schemas: "+err.Error())}
	}
	return compile(in, w, src)
}

// compile makes a plan of a pool, and checks what CUE cannot say.
func compile(in Input, w pool, src *sources) (*plan.Pool, error) {
	if w.name != in.Pool {
		return nil, Problems{src.problem("pool.name", fmt.Sprintf("is %q, but the folder is %s%s: they must be the same", w.name, poolsDir, in.Pool))}
	}
	p := &plan.Pool{
		Fleet: in.Fleet, Name: w.name, DisplayName: w.displayName, Type: w.kind,
		Labels: w.labels, Annotations: w.annotations, MovedTo: w.movedTo, AutonomyDuration: w.autonomyDuration,
	}
	var ps Problems
	p.Taints = taints(w.taints, "pool", src, &ps)
	for _, name := range slices.Sorted(maps.Keys(w.nodes)) {
		n := w.nodes[name]
		at := "pool.nodes." + quoteLabel(name)
		if to, moved := w.movedTo[name]; moved {
			ps = append(ps, src.problem("pool.movedTo."+quoteLabel(name), fmt.Sprintf("the pool still has the node %s: remove it from nodes, since it moved to %s", name, to)))
		}
		p.Nodes = append(p.Nodes, plan.Node{
			Fleet: in.Fleet, Pool: w.name, Name: n.name, Arch: n.arch, Labels: n.labels, Annotations: n.annotations,
			Taints: taints(n.taints, at, src, &ps), Hardware: n.hardware, Agent: n.agent,
		})
	}
	for _, name := range slices.Sorted(maps.Keys(w.movedTo)) {
		if w.movedTo[name] == w.name {
			ps = append(ps, src.problem("pool.movedTo."+quoteLabel(name), "names this pool itself"))
		}
	}
	if len(ps) > 0 {
		return nil, ps.tidy()
	}
	return p, nil
}

// taints gives the taints sorted by key and effect, which together name a taint.
func taints(w map[string]plan.Taint, at string, src *sources, ps *Problems) []plan.Taint {
	var out []plan.Taint
	for _, name := range slices.Sorted(maps.Keys(w)) {
		t := w[name]
		if i := slices.IndexFunc(out, func(o plan.Taint) bool { return o.Key == t.Key && o.Effect == t.Effect }); i >= 0 {
			*ps = append(*ps, src.problem(at+".taints."+quoteLabel(name), fmt.Sprintf("is a second taint with key %s and effect %s: a node takes one", t.Key, t.Effect)))
			continue
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b plan.Taint) int {
		if c := strings.Compare(a.Key, b.Key); c != 0 {
			return c
		}
		return strings.Compare(a.Effect, b.Effect)
	})
	return out
}
