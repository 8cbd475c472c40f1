//go:build e2e

package agent

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent"
	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/test/fleetrepo"
	"github.com/holdfast-dev/holdfast/test/gitserver"
	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// site is one node of a fleet with a real cluster behind it.
type site struct {
	*testing.T
	lab   *lab.Lab
	fleet *fleetrepo.Fleet
	node  string
	state string
	agent edgeagent.Control
	stop  func()
}

// object is what the tests read of Nodes and EdgeNodes.
type object struct {
	Metadata struct {
		Labels, Annotations map[string]string
	}
	Status struct {
		Revision, PlanDigest, Pool, AgentVersion string
		Conditions                               []condition.Condition
	}
}

func start(t *testing.T, l *lab.Lab, node string) *site {
	t.Helper()
	s := &site{T: t, lab: l, node: node, fleet: fleetrepo.Start(t, gitserver.Config{}, fleetrepo.One("berlin", node, "rack", "7"))}
	if _, err := l.AddNode(t.Context(), lab.NodeOptions{Name: node, Labels: map[string]string{"foreign": "yes"}}); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := l.NodeKubeconfig(node)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s.state = filepath.Join(dir, "s")
	s.agent = edgeagent.Control{State: s.state}
	if _, err := edgeagent.Enroll(t.Context(), edgeagent.EnrollOptions{State: s.state, Node: node, Pool: "berlin", URL: s.fleet.URL, CA: s.fleet.CA,
		Branch: "main", Anchor: s.fleet.Anchor(), Kubeconfig: kubeconfig}); err != nil {
		t.Fatal(err)
	}
	s.run()
	return s
}

// run runs the agent until stop or the end of the test.
func (s *site) run() {
	s.Helper()
	a, err := edgeagent.Open(edgeagent.Options{Config: edgeagent.Config{State: s.state, Address: edgeagent.NoAddress, ProxyAddress: edgeagent.NoAddress, PodAddress: edgeagent.NoAddress}, Version: "v1.2.3"})
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			s.Error(err)
		}
		if err := a.Close(); err != nil {
			s.Error(err)
		}
	}
	s.Cleanup(s.stop)
}

func (s *site) get(path string) (o object) {
	s.Helper()
	if err := s.lab.Request(s.Context(), "GET", path, nil, &o); err != nil {
		s.Fatal(err)
	}
	return o
}

func (s *site) labels() map[string]string {
	s.Helper()
	return s.get("/api/v1/nodes/" + s.node).Metadata.Labels
}

func (s *site) sync() edgeagent.Status {
	s.Helper()
	st, err := s.agent.Sync(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	return st
}

func (s *site) eventually(what string, ok func() bool) {
	s.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			st, err := s.agent.Status(s.Context())
			s.Fatalf("%s did not happen; labels %v, agent %+v %v", what, s.labels(), st.Conditions, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// edit changes the Node as administrator.
func (s *site) edit(labels map[string]any) {
	s.Helper()
	if err := s.lab.Request(s.Context(), "PATCH", "/api/v1/nodes/"+s.node, map[string]any{"metadata": map[string]any{"labels": labels}}, nil); err != nil {
		s.Fatal(err)
	}
}

func TestPushChangesTheNode(t *testing.T) {
	s := start(t, labtest.Shared(t), "push-n1")
	s.eventually("the first label", func() bool { return s.labels()["rack"] == "7" })

	pool := fleetrepo.One("berlin", s.node, "rack", "8")
	pool.More = `pool: nodes: "` + s.node + `": annotations: note: "from the fleet repo"` + "\n"
	tip := s.fleet.Set(pool)
	st := s.sync()
	if st.Revision != tip || s.labels()["rack"] != "8" {
		t.Fatalf("revision %s, labels %v, %+v", st.Revision, s.labels(), st.Conditions)
	}
	if c, _ := condition.Get(st.Conditions, condition.Ready); c.Status != condition.True {
		t.Fatalf("%+v", st.Conditions)
	}
	node := s.get("/api/v1/nodes/" + s.node)
	if node.Metadata.Annotations["note"] != "from the fleet repo" || node.Metadata.Labels["foreign"] != "yes" {
		t.Fatalf("%+v", node.Metadata)
	}

	// Drift is corrected, and what others set is theirs.
	s.edit(map[string]any{"rack": "drifted", "foreign": "still", "other": "new"})
	s.eventually("correcting a changed label", func() bool { return s.labels()["rack"] == "8" })
	s.edit(map[string]any{"rack": nil})
	s.eventually("correcting a removed label", func() bool { return s.labels()["rack"] == "8" })
	if l := s.labels(); l["foreign"] != "still" || l["other"] != "new" {
		t.Fatalf("foreign labels: %v", l)
	}

	// What the plan no longer says is removed.
	s.fleet.Set(fleetrepo.Pool{Name: "berlin", Nodes: map[string]map[string]string{s.node: {"shelf": "2"}}})
	s.sync()
	node = s.get("/api/v1/nodes/" + s.node)
	if l := node.Metadata.Labels; l["shelf"] != "2" || l["rack"] != "" || l["foreign"] != "still" || node.Metadata.Annotations["note"] != "" {
		t.Fatalf("%+v", node.Metadata)
	}

	// A rejected revision changes nothing.
	s.fleet.PushUnsigned(fleetrepo.One("berlin", s.node, "shelf", "3").File())
	st = s.sync()
	if c, _ := condition.Get(st.Conditions, condition.Verified); c.Reason != verify.Unsigned || s.labels()["shelf"] != "2" {
		t.Fatalf("%+v, %v", c, s.labels())
	}

	// Unenrolling removes what the agent set, and nothing else.
	s.stop()
	u, err := edgeagent.Unenroll(t.Context(), edgeagent.UnenrollOptions{State: s.state})
	if err != nil || !u.Unmarked {
		t.Fatalf("%+v, %v", u, err)
	}
	if l := s.labels(); l["shelf"] != "" || l["kelp.example/brand"] != "" || l["foreign"] != "still" {
		t.Fatalf("after unenrolling: %v", l)
	}
}

func TestReportReachesItsEdgeNode(t *testing.T) {
	l := labtest.Shared(t)
	s := start(t, l, "report-n1")
	reported := func(reason string) func() bool {
		return func() bool {
			st, err := s.agent.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			c, _ := condition.Get(st.Conditions, condition.Reported)
			return c.Reason == reason
		}
	}
	installAll(t, l)
	addEdgeNode(t, l, s.node)
	s.stop() // a node waits a minute or two for an EdgeNode that is missing; a restart looks at once
	s.run()
	s.eventually("a report", reported(condition.ReasonSent))
	got := s.get("/apis/fleet.holdfast.dev/v1alpha1/edgenodes/" + s.node)
	st := s.sync()
	if got.Status.Revision != st.Revision || got.Status.Pool != "berlin" || got.Status.AgentVersion != "v1.2.3" || got.Status.PlanDigest != st.PlanDigest {
		t.Fatalf("%+v", got.Status)
	}
	s.eventually("Ready in the cluster", func() bool {
		c, _ := condition.Get(s.get("/apis/fleet.holdfast.dev/v1alpha1/edgenodes/"+s.node).Status.Conditions, condition.Ready)
		return c.Status == condition.True && !c.LastTransitionTime.IsZero()
	})
	s.fleet.PushUnsigned(verifytest.Files{"x": "y"})
	s.sync()
	s.eventually("the rejection in the cluster", func() bool {
		c, _ := condition.Get(s.get("/apis/fleet.holdfast.dev/v1alpha1/edgenodes/"+s.node).Status.Conditions, condition.Ready)
		return c.Reason == verify.Unsigned
	})
	// With the policies in place the agent's own labels still pass.
	s.fleet.SetRef("refs/heads/main", s.fleet.Anchor())
	s.fleet.Set(fleetrepo.One("berlin", s.node, "rack", "9"))
	s.sync()
	if s.labels()["rack"] != "9" {
		t.Fatalf("%v", s.labels())
	}
}

// TestAPIServerOutage: the plan goes on being followed while the API server is away, and the Node is brought to it when
// it is back.
func TestAPIServerOutage(t *testing.T) {
	l := labtest.Start(t, lab.Options{})
	s := start(t, l, "outage-n1")
	s.eventually("the first label", func() bool { return s.labels()["rack"] == "7" })
	if err := l.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	tip := s.fleet.Set(fleetrepo.One("berlin", s.node, "rack", "8"))
	st := s.sync()
	if c, _ := condition.Get(st.Conditions, condition.NodePoolReady); st.Revision != tip || c.Reason != condition.ReasonAPIUnreachable {
		t.Fatalf("revision %s, %+v", st.Revision, c)
	}
	s.stop() // a reboot meanwhile
	s.run()
	if err := l.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.eventually("the label, when the API server is back", func() bool { return s.labels()["rack"] == "8" })
}
