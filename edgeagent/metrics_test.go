package edgeagent

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEveryMetricIsDocumented keeps the table of docs/agent.md complete, with the labels of each metric.
func TestEveryMetricIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	n := enrolled(t, "berlin")
	n.f.push(pool("berlin", "7", "n1"))
	n.must(n.poll())
	n.a.metrics.planless("x") // counters without a value are not shown
	n.a.reconciled("nodepool", time.Second, nil)
	families, err := n.a.metrics.registry.Gather()
	n.must(err)
	shown := map[string]bool{}
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		shown[f.GetName()] = true
		row := regexp.MustCompile("(?m)^\\| `" + f.GetName() + "` \\| (.*?)\\|").FindSubmatch(doc)
		if row == nil {
			t.Errorf("docs/agent.md does not list %s", f.GetName())
			continue
		}
		var documented []string
		if text := strings.TrimSpace(string(row[1])); text != "" {
			documented = strings.Split(text, ", ")
		}
		slices.Sort(documented)
		if slices.Sort(labels); !slices.Equal(labels, documented) {
			t.Errorf("%s has labels %v, docs/agent.md says %v", f.GetName(), labels, documented)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(holdfast_agent_[a-z_]+)`").FindAllSubmatch(doc, -1) {
		if !shown[string(m[1])] {
			t.Errorf("docs/agent.md lists %s, which is not there", m[1])
		}
	}
}
