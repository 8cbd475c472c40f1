package plan

import (
	"fmt"
	"strconv"
	"strings"
)

// fields gathers the changed fields of one node or pool.
type fields []FieldChange

// change makes a change of the fields, if there are any or if the thing moved. Its risk is the highest of all.
func (f fields) change(c Change) (Change, bool) {
	if len(f) == 0 && c.Action != Moved {
		return Change{}, false
	}
	c.Fields = f
	for _, field := range f {
		if field.Risk.weight() > c.Risk.weight() {
			c.Risk, c.Why = field.Risk, field.Why
		}
	}
	return c, true
}

// weight orders risks.
func (r Risk) weight() int {
	switch r {
	case RiskHigh:
		return 3
	case RiskMedium:
		return 2
	case RiskLow:
		return 1
	}
	return 0
}

// Max gives the higher of two risks.
func (r Risk) Max(other Risk) Risk {
	if other.weight() > r.weight() {
		return other
	}
	return r
}

// text enters a field whose change has that risk.
func (f *fields) text(path, old, new string, risk Risk, why string) {
	if old != new {
		*f = append(*f, FieldChange{Path: path, Old: old, New: new, Risk: risk, Why: why})
	}
}

// mapping enters the changed keys of labels and the like: nothing that runs looks at them again.
func (f *fields) mapping(path string, old, new map[string]string) {
	for _, k := range union(old, new) {
		before, had := old[k]
		after, has := new[k]
		if had != has || before != after {
			*f = append(*f, FieldChange{Path: path + "[" + strconv.Quote(k) + "]", Old: shown(before, had), New: shown(after, has), Risk: RiskLow})
		}
	}
}

// shown tells an empty value from none.
func shown(value string, present bool) string {
	if present && value == "" {
		return `""`
	}
	return value
}

// taints enters the changed taints. A taint is named by its key and effect.
func (f *fields) taints(old, new []Taint) {
	before, after := map[string]*Taint{}, map[string]*Taint{}
	by := func(list []Taint, into map[string]*Taint) {
		for i, t := range list {
			into[t.Key+"\x00"+t.Effect] = &list[i]
		}
	}
	by(old, before)
	by(new, after)
	for _, id := range union(before, after) {
		b, a := before[id], after[id]
		switch {
		case b == nil:
			risk, why := tainted(a.Effect)
			*f = append(*f, FieldChange{Path: "taints", New: a.String(), Risk: risk, Why: why})
		case a == nil:
			*f = append(*f, FieldChange{Path: "taints", Old: b.String(), Risk: untainted(b.Effect), Why: "pods that were kept away may be scheduled here"})
		case *a != *b:
			risk, why := tainted(a.Effect)
			*f = append(*f, FieldChange{Path: "taints", Old: b.String(), New: a.String(), Risk: risk, Why: why})
		}
	}
}

// String gives kubectl's form: key=value:effect.
func (t Taint) String() string {
	if t.Value == "" {
		return t.Key + ":" + t.Effect
	}
	return t.Key + "=" + t.Value + ":" + t.Effect
}

func tainted(effect string) (Risk, string) {
	switch effect {
	case "NoExecute":
		return RiskHigh, "pods that do not tolerate it are evicted"
	case "NoSchedule":
		return RiskMedium, "pods that do not tolerate it are not scheduled here any more"
	}
	return RiskLow, ""
}

func untainted(effect string) Risk {
	if effect == "PreferNoSchedule" {
		return RiskLow
	}
	return RiskMedium
}

func (f *fields) hardware(old, new Hardware) {
	number := func(n int64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatInt(n, 10)
	}
	f.text("hardware.vendor", old.Vendor, new.Vendor, RiskLow, "")
	f.text("hardware.model", old.Model, new.Model, RiskLow, "")
	f.text("hardware.serial", old.Serial, new.Serial, RiskLow, "")
	f.text("hardware.cpus", number(old.CPUs), number(new.CPUs), RiskLow, "")
	f.text("hardware.memoryMB", number(old.MemoryMB), number(new.MemoryMB), RiskLow, "")
	f.mapping("hardware.facts", old.Facts, new.Facts)
}

func (f *fields) agent(old, new Agent) {
	f.text("agent.pollInterval", old.PollInterval.String(), new.PollInterval.String(), RiskLow, "")
	f.text("agent.freshness", old.Freshness.String(), new.Freshness.String(), RiskLow, "")
	limit := func(path string, old, new int64, oldText, newText string) {
		risk, why := RiskLow, ""
		if new < old {
			risk, why = RiskMedium, "a revision that needs more is not taken"
		}
		f.text("agent.limits."+path, oldText, newText, risk, why)
	}
	a, b := old.Limits, new.Limits
	limit("memoryMB", a.MemoryMB, b.MemoryMB, fmt.Sprint(a.MemoryMB), fmt.Sprint(b.MemoryMB))
	limit("cpu", int64(a.CPU), int64(b.CPU), a.CPU.String(), b.CPU.String())
	limit("repoMB", a.RepoMB, b.RepoMB, fmt.Sprint(a.RepoMB), fmt.Sprint(b.RepoMB))
	f.proxy(old.Proxy, new.Proxy)
}

func (f *fields) proxy(old, new Proxy) {
	risk, why := RiskLow, ""
	if new.CacheMB < old.CacheMB {
		risk, why = RiskMedium, "what does not fit is forgotten, and not there when the node is cut off"
	}
	f.text("agent.proxy.cacheMB", strconv.FormatInt(old.CacheMB, 10), strconv.FormatInt(new.CacheMB, 10), risk, why)
	f.text("agent.proxy.neverCache", strings.Join(old.NeverCache, ", "), strings.Join(new.NeverCache, ", "), RiskMedium,
		"what is not kept is not there when the node is cut off")
	f.text("agent.proxy.upstreams", strings.Join(old.Upstreams, ", "), strings.Join(new.Upstreams, ", "), RiskHigh,
		"a node that reaches none of them is cut off from its API server")
}

// autonomy enters how long pods of unreachable nodes are kept. Zero is Kubernetes' own five minutes.
func (f *fields) autonomy(old, new Duration) {
	risk, why := RiskLow, ""
	if new < old {
		risk, why = RiskMedium, "pods of nodes that cannot be reached are evicted sooner"
	}
	f.text("autonomyDuration", old.String(), new.String(), risk, why)
}
