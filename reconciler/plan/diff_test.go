package plan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// base is a pool with two nodes; edit changes a copy of it.
func base(edit func(*plan.Pool)) []*plan.Pool {
	agent := plan.Agent{PollInterval: plan.Duration(time.Minute), Limits: plan.Limits{MemoryMB: 256, CPU: plan.Duration(30 * time.Second), RepoMB: 512}}
	p := &plan.Pool{Fleet: "kelp", Name: "berlin", Type: "Edge"}
	for _, name := range []string{"a", "b"} {
		p.Nodes = append(p.Nodes, plan.Node{
			Fleet: "kelp", Pool: "berlin", Name: name, Arch: "arm64", Labels: map[string]string{"tier": "till"},
			Taints: []plan.Taint{{Key: "till", Effect: "NoSchedule"}}, Agent: agent,
		})
	}
	if edit != nil {
		edit(p)
	}
	return []*plan.Pool{p}
}

// render gives changes as text: one line for each, and one for each field.
func render(changes []plan.Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s %s/%s from=%q %s %q\n", c.Action, c.Pool, c.Node, c.From, c.Risk, c.Why)
		for _, f := range c.Fields {
			fmt.Fprintf(&b, "  %s %q->%q %s %q\n", f.Path, f.Old, f.New, f.Risk, f.Why)
		}
	}
	return b.String()
}

func TestDiff(t *testing.T) {
	other := func(nodes ...plan.Node) *plan.Pool {
		return &plan.Pool{Fleet: "kelp", Name: "hamburg", Type: "Edge", Nodes: nodes}
	}
	for _, c := range []struct {
		name     string
		old, new []*plan.Pool
		want     string
	}{
		{"nothing", base(nil), base(nil), ""},
		{"label", base(nil), base(func(p *plan.Pool) { p.Nodes[0].Labels = map[string]string{"zone": ""} }),
			"changed berlin/a from=\"\" low \"\"\n  labels[\"tier\"] \"till\"->\"\" low \"\"\n  labels[\"zone\"] \"\"->\"\\\"\\\"\" low \"\"\n"},
		{"NoExecute", base(nil), base(func(p *plan.Pool) {
			p.Nodes[1].Taints = append(p.Nodes[1].Taints, plan.Taint{Key: "x", Value: "y", Effect: "NoExecute"})
		}), "changed berlin/b from=\"\" high \"pods that do not tolerate it are evicted\"\n  taints \"\"->\"x=y:NoExecute\" high \"pods that do not tolerate it are evicted\"\n"},
		{"effect", base(nil), base(func(p *plan.Pool) { p.Nodes[0].Taints = []plan.Taint{{Key: "till", Effect: "PreferNoSchedule"}} }),
			"changed berlin/a from=\"\" medium \"pods that were kept away may be scheduled here\"\n  taints \"till:NoSchedule\"->\"\" medium \"pods that were kept away may be scheduled here\"\n  taints \"\"->\"till:PreferNoSchedule\" low \"\"\n"},
		{"removed", base(nil), base(func(p *plan.Pool) { p.Nodes = p.Nodes[:1] }), "removed berlin/b from=\"\" high \"it keeps its last plan and gets no more\"\n"},
		{"added", base(func(p *plan.Pool) { p.Nodes = p.Nodes[:1] }), base(nil), "added berlin/b from=\"\" low \"\"\n"},
		{"moved", append(base(nil), other()), append(base(func(p *plan.Pool) { p.Nodes = p.Nodes[:1]; p.MovedTo = map[string]string{"b": "hamburg"} }), func() *plan.Pool {
			n := base(nil)[0].Nodes[1]
			n.Pool = "hamburg"
			return other(n)
		}()), "changed berlin/ from=\"\" low \"\"\n  movedTo[\"b\"] \"\"->\"hamburg\" low \"\"\nmoved hamburg/b from=\"berlin\" medium \"what selects it by its pool selects others\"\n"},
		{"limits", base(nil), base(func(p *plan.Pool) {
			p.Nodes[0].Agent.Limits.MemoryMB = 128
			p.Nodes[0].Agent.Limits.RepoMB = 1024
		}), "changed berlin/a from=\"\" medium \"a revision that needs more is not taken\"\n  agent.limits.memoryMB \"256\"->\"128\" medium \"a revision that needs more is not taken\"\n  agent.limits.repoMB \"512\"->\"1024\" low \"\"\n"},
		{"proxy", base(nil), base(func(p *plan.Pool) {
			p.AutonomyDuration = plan.Duration(time.Hour)
			p.Nodes[0].Agent.Proxy = plan.Proxy{CacheMB: 64, NeverCache: []string{"events"}, Upstreams: []string{"https://a:1"}}
		}), "changed berlin/ from=\"\" low \"\"\n  autonomyDuration \"0s\"->\"1h0m0s\" low \"\"\n" +
			"changed berlin/a from=\"\" high \"a node that reaches none of them is cut off from its API server\"\n  agent.proxy.cacheMB \"0\"->\"64\" low \"\"\n" +
			"  agent.proxy.neverCache \"\"->\"events\" medium \"what is not kept is not there when the node is cut off\"\n" +
			"  agent.proxy.upstreams \"\"->\"https://a:1\" high \"a node that reaches none of them is cut off from its API server\"\n"},
		{"arch", base(nil), base(func(p *plan.Pool) { p.Nodes[0].Arch = "amd64" }),
			"changed berlin/a from=\"\" high \"images of the other architecture do not run\"\n  arch \"arm64\"->\"amd64\" high \"images of the other architecture do not run\"\n"},
		{"pool removed", base(nil), nil, "removed berlin/ from=\"\" high \"its NodePool goes, and its nodes get no more plans unless they moved\"\nremoved berlin/a from=\"\" high \"it keeps its last plan and gets no more\"\nremoved berlin/b from=\"\" high \"it keeps its last plan and gets no more\"\n"},
		{"hardware", base(nil), base(func(p *plan.Pool) { p.Nodes[0].Hardware.CPUs = 4 }), "changed berlin/a from=\"\" low \"\"\n  hardware.cpus \"\"->\"4\" low \"\"\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := render(plan.Diff(c.old, c.new)); got != c.want {
				t.Fatalf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}
