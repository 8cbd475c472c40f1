package fleet

import (
	"encoding/json"
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
	// The options are those of `cue vet`.
	if err := v.Validate(cue.Attributes(true), cue.Definitions(true), cue.Hidden(true), cue.Concrete(true)); err != nil {
		return nil, src.problems(err)
	}
	value := v.LookupPath(cue.MakePath(cue.Str("pool")))
	switch {
	case in.Pool == "" && value.Exists():
		return nil, Problems{src.problem("pool", "the root declares a pool: write it in "+poolsDir+"<name>")}
	case in.Pool == "":
		return nil, nil
	case !value.Exists():
		return nil, Problems{{File: dir, Message: "declares no pool: write pool: name: " + fmt.Sprintf("%q", in.Pool) + " and what else it is"}}
	}
	raw, err := value.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("export pool %s: %w", in.Pool, err)
	}
	return decode(in, raw, src)
}

// wirePool and the types below are a pool as the schemas have it.
type wirePool struct {
	Name        string               `json:"name"`
	DisplayName string               `json:"displayName"`
	Type        string               `json:"type"`
	Labels      map[string]string    `json:"labels"`
	Annotations map[string]string    `json:"annotations"`
	Taints      map[string]wireTaint `json:"taints"`
	Nodes       map[string]wireNode  `json:"nodes"`
	MovedTo     map[string]string    `json:"movedTo"`
}

type wireTaint struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Effect string `json:"effect"`
}

type wireNode struct {
	Name        string               `json:"name"`
	Arch        string               `json:"arch"`
	Labels      map[string]string    `json:"labels"`
	Annotations map[string]string    `json:"annotations"`
	Taints      map[string]wireTaint `json:"taints"`
	Hardware    plan.Hardware        `json:"hardware"`
	Agent       plan.Agent           `json:"agent"`
}

// decode makes a plan of a pool's JSON, and checks what CUE cannot say.
func decode(in Input, raw []byte, src *sources) (*plan.Pool, error) {
	var w wirePool
	if err := json.Unmarshal(raw, &w); err != nil {
		return nil, Problems{src.problem("pool", "does not have the form of the schemas: "+err.Error())}
	}
	if w.Name != in.Pool {
		return nil, Problems{src.problem("pool.name", fmt.Sprintf("is %q, but the folder is %s%s: they must be the same", w.Name, poolsDir, in.Pool))}
	}
	p := &plan.Pool{
		Fleet: in.Fleet, Name: w.Name, DisplayName: w.DisplayName, Type: w.Type,
		Labels: w.Labels, Annotations: w.Annotations, MovedTo: w.MovedTo,
	}
	var ps Problems
	p.Taints = taints(w.Taints, "pool", src, &ps)
	for _, name := range slices.Sorted(maps.Keys(w.Nodes)) {
		n := w.Nodes[name]
		at := "pool.nodes." + quoteLabel(name)
		if len(name) > 253 {
			ps = append(ps, src.problem(at, "a node's name has at most 253 characters"))
		}
		if to, moved := w.MovedTo[name]; moved {
			ps = append(ps, src.problem("pool.movedTo."+quoteLabel(name), fmt.Sprintf("the pool still has the node %s: remove it from nodes, since it moved to %s", name, to)))
		}
		p.Nodes = append(p.Nodes, plan.Node{
			Fleet: in.Fleet, Pool: w.Name, Name: n.Name, Arch: n.Arch, Labels: n.Labels, Annotations: n.Annotations,
			Taints: taints(n.Taints, at, src, &ps), Hardware: n.Hardware, Agent: n.Agent,
		})
	}
	for _, name := range slices.Sorted(maps.Keys(w.MovedTo)) {
		if w.MovedTo[name] == w.Name {
			ps = append(ps, src.problem("pool.movedTo."+quoteLabel(name), "names this pool itself"))
		}
	}
	if len(ps) > 0 {
		return nil, ps.tidy()
	}
	return p, nil
}

// taints gives the taints sorted by key and effect, which together name a taint.
func taints(w map[string]wireTaint, at string, src *sources, ps *Problems) []plan.Taint {
	var out []plan.Taint
	for _, name := range slices.Sorted(maps.Keys(w)) {
		t := plan.Taint(w[name])
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
