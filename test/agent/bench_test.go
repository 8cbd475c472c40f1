//go:build bench

package agent

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/test/fleetrepo"
	"github.com/holdfast-dev/holdfast/test/gitserver"
	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// tempDir gives a folder with a path short enough for a socket.
func tempDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// BenchmarkPushToLabels measures, with a real API server, how long a signed push takes to change the Node's labels: all of it,
// and from the moment it is fetched.
func BenchmarkPushToLabels(b *testing.B) {
	l := labtest.Shared(b)
	const node = "bench-n1"
	f := fleetrepo.Start(b, gitserver.Config{}, fleetrepo.One("berlin", node, "rack", "start"))
	if _, err := l.AddNode(b.Context(), lab.NodeOptions{Name: node}); err != nil {
		b.Fatal(err)
	}
	kubeconfig, err := l.NodeKubeconfig(node)
	if err != nil {
		b.Fatal(err)
	}
	state := tempDir(b)
	if _, err := edgeagent.Enroll(b.Context(), edgeagent.EnrollOptions{State: state, Node: node, Pool: "berlin", URL: f.URL, CA: f.CA, Branch: "main", Anchor: f.Anchor(), Kubeconfig: kubeconfig}); err != nil {
		b.Fatal(err)
	}
	var fetched time.Time
	a, err := edgeagent.Open(edgeagent.Options{Config: edgeagent.Config{State: state, Address: edgeagent.NoAddress, ProxyAddress: edgeagent.NoAddress, PodAddress: edgeagent.NoAddress}, Step: func(at string) {
		if at == "fetched" {
			fetched = time.Now()
		}
	}})
	if err != nil {
		b.Fatal(err)
	}
	defer runAgent(b, a)()
	agent := edgeagent.Control{State: state}
	if _, err := agent.Sync(b.Context()); err != nil {
		b.Fatal(err)
	}
	var fromFetched time.Duration
	i := 0
	for b.Loop() {
		b.StopTimer()
		i++
		f.Set(fleetrepo.One("berlin", node, "rack", strconv.Itoa(i)))
		b.StartTimer()
		st, err := agent.Sync(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		fromFetched = max(fromFetched, time.Since(fetched))
		if c, _ := condition.Get(st.Conditions, condition.Ready); c.Status != condition.True {
			b.Fatalf("%+v", st.Conditions)
		}
	}
	b.ReportMetric(float64(fromFetched.Milliseconds()), "fetched-to-labels-ms")
}

// runAgent runs an agent until the returned function is called.
func runAgent(tb testing.TB, a *edgeagent.Agent) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
		if err := a.Close(); err != nil {
			tb.Error(err)
		}
	}
}
