//go:build e2e

package lab_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

func TestAPIServerAlone(t *testing.T) {
	began := time.Now()
	l := labtest.Start(t, lab.Options{})
	t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))
	n, err := l.AddNode(t.Context(), lab.NodeOptions{Name: "shop-1", Labels: map[string]string{"site": "shop"}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := l.Kubectl(t.Context(), "--kubeconfig", n.Kubeconfig, "get", "node", "shop-1", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var node struct {
		Metadata struct{ Labels map[string]string }
	}
	if err := json.Unmarshal([]byte(out), &node); err != nil {
		t.Fatal(err)
	}
	if node.Metadata.Labels["site"] != "shop" {
		t.Errorf("labels are %v, want site=shop among them", node.Metadata.Labels)
	}
	if out, err := l.Kubectl(t.Context(), "--kubeconfig", n.Kubeconfig, "label", "node", "shop-1", "x.node-restriction.kubernetes.io/a=b"); err == nil {
		t.Errorf("a node set a label that NodeRestriction forbids: %s", out)
	}
	if err := l.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := l.Request(t.Context(), "GET", "/readyz", nil, nil); err == nil {
		t.Error("the API server answers after StopAPIServer")
	}
	if err := l.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Request(t.Context(), "GET", "/api/v1/nodes/shop-1", nil, nil); err != nil {
		t.Errorf("the node did not survive a restart of the API server: %v", err)
	}
}
