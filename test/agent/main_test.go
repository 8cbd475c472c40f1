//go:build e2e || bench

package agent

import (
	"os"
	"testing"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/hub/install"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
	"github.com/holdfast-dev/holdfast/test/lab"
)

func TestMain(m *testing.M) {
	sandbox.Main(revision.Children())
	os.Exit(m.Run())
}

// installAll puts CRDs, roles and admission policies into a cluster.
func installAll(tb testing.TB, l *lab.Lab) {
	tb.Helper()
	objects, err := install.Objects()
	if err != nil {
		tb.Fatal(err)
	}
	rest, err := clientcmd.BuildConfigFromFlags("", l.AdminKubeconfig())
	if err != nil {
		tb.Fatal(err)
	}
	rest.QPS = -1
	cluster, err := dynamic.NewForConfig(rest)
	if err != nil {
		tb.Fatal(err)
	}
	if err := install.Apply(tb.Context(), cluster, objects, func(install.Step) {}); err != nil {
		tb.Fatal(err)
	}
}

// addEdgeNode makes a node's EdgeNode, as the hub would.
func addEdgeNode(tb testing.TB, l *lab.Lab, node string) {
	tb.Helper()
	edgeNode := map[string]any{"apiVersion": "fleet.holdfast.dev/v1alpha1", "kind": "EdgeNode", "metadata": map[string]any{"name": node},
		"spec": map[string]any{"fleet": verifytest.Fleet, "pool": "berlin"}}
	if err := l.Request(tb.Context(), "POST", "/apis/fleet.holdfast.dev/v1alpha1/edgenodes", edgeNode, nil); err != nil {
		tb.Fatal(err)
	}
}
