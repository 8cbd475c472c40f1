package fleet

import (
	"errors"
	"fmt"
	"slices"

	"cuelang.org/go/cue"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// pool and node are what the schemas' values hold.
type pool struct {
	name, displayName, kind string
	labels, annotations     map[string]string
	taints                  map[string]plan.Taint
	nodes                   map[string]node
	movedTo                 map[string]string
	autonomyDuration        plan.Duration
}

type node struct {
	name, arch          string
	labels, annotations map[string]string
	taints              map[string]plan.Taint
	hardware            plan.Hardware
	agent               plan.Agent
}

// readPool reads a pool. It looks fields up one by one: exporting JSON would sort the fields of every struct by where
// they were written, which takes a fifth of an evaluation.
func readPool(v cue.Value) (pool, error) {
	r := &reader{}
	p := pool{
		name:        r.text(v, "name"),
		displayName: r.text(v, "displayName"),
		kind:        r.text(v, "type"),
		labels:      r.texts(v, "labels"),
		annotations: r.texts(v, "annotations"),
		taints:      r.taints(v, "taints"),
		movedTo:     r.texts(v, "movedTo"),
		nodes:       map[string]node{},

		autonomyDuration: r.duration(v, "autonomyDuration"),
	}
	r.each(v, "nodes", func(name string, n cue.Value) { p.nodes[name] = r.node(n) })
	return p, errors.Join(r.errs...)
}

// reader reads CUE values and gathers what does not fit.
type reader struct{ errs []error }

func (r *reader) node(v cue.Value) node {
	hw, agent, limits, proxy := field(v, "hardware"), field(v, "agent"), field(v, "agent", "limits"), field(v, "agent", "proxy")
	return node{
		name:        r.text(v, "name"),
		arch:        r.text(v, "arch"),
		labels:      r.texts(v, "labels"),
		annotations: r.texts(v, "annotations"),
		taints:      r.taints(v, "taints"),
		hardware: plan.Hardware{
			Vendor: r.text(hw, "vendor"), Model: r.text(hw, "model"), Serial: r.text(hw, "serial"),
			CPUs: r.number(hw, "cpus"), MemoryMB: r.number(hw, "memoryMB"), Facts: r.texts(hw, "facts"),
		},
		agent: plan.Agent{
			PollInterval: r.duration(agent, "pollInterval"), Freshness: r.duration(agent, "freshness"),
			Limits: plan.Limits{MemoryMB: r.number(limits, "memoryMB"), CPU: r.duration(limits, "cpu"), RepoMB: r.number(limits, "repoMB")},
			Proxy:  plan.Proxy{CacheMB: r.number(proxy, "cacheMB"), NeverCache: r.chosen(proxy, "neverCache"), Upstreams: r.list(proxy, "upstreams")},
		},
	}
}

func field(v cue.Value, names ...string) cue.Value {
	path := make([]cue.Selector, len(names))
	for i, n := range names {
		path[i] = cue.Str(n)
	}
	return v.LookupPath(cue.MakePath(path...))
}

func (r *reader) failed(v cue.Value, err error) {
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("%s: %w", v.Path(), err))
	}
}

// text gives a field that is a string, "" if it is not there.
func (r *reader) text(v cue.Value, name string) string {
	f := field(v, name)
	if !f.Exists() {
		return ""
	}
	s, err := f.String()
	r.failed(f, err)
	return s
}

func (r *reader) number(v cue.Value, name string) int64 {
	f := field(v, name)
	if !f.Exists() {
		return 0
	}
	n, err := f.Int64()
	r.failed(f, err)
	return n
}

func (r *reader) duration(v cue.Value, name string) plan.Duration {
	var d plan.Duration
	if s := r.text(v, name); s != "" {
		r.failed(field(v, name), d.UnmarshalJSON([]byte(`"`+s+`"`)))
	}
	return d
}

// each calls do for the fields of the struct at name.
func (r *reader) each(v cue.Value, name string, do func(string, cue.Value)) {
	f := field(v, name)
	if !f.Exists() {
		return
	}
	it, err := f.Fields()
	if err != nil {
		r.failed(f, err)
		return
	}
	for it.Next() {
		do(it.Selector().Unquoted(), it.Value())
	}
}

func (r *reader) texts(v cue.Value, name string) map[string]string {
	var out map[string]string
	r.each(v, name, func(key string, f cue.Value) {
		s, err := f.String()
		r.failed(f, err)
		if out == nil {
			out = map[string]string{}
		}
		out[key] = s
	})
	return out
}

// chosen gives the names in the struct at name that are true, in order.
func (r *reader) chosen(v cue.Value, name string) []string {
	var out []string
	r.each(v, name, func(key string, f cue.Value) {
		yes, err := f.Bool()
		r.failed(f, err)
		if yes {
			out = append(out, key)
		}
	})
	slices.Sort(out)
	return out
}

// list gives the strings of the list at name.
func (r *reader) list(v cue.Value, name string) []string {
	f := field(v, name)
	if !f.Exists() {
		return nil
	}
	items, err := f.List()
	if err != nil {
		r.failed(f, err)
		return nil
	}
	var out []string
	for items.Next() {
		s, err := items.Value().String()
		r.failed(items.Value(), err)
		out = append(out, s)
	}
	return out
}

func (r *reader) taints(v cue.Value, name string) map[string]plan.Taint {
	out := map[string]plan.Taint{}
	r.each(v, name, func(key string, f cue.Value) {
		out[key] = plan.Taint{Key: r.text(f, "key"), Value: r.text(f, "value"), Effect: r.text(f, "effect")}
	})
	return out
}
