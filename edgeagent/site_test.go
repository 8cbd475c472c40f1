//go:build e2e || !race

package edgeagent

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/store"
	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/source"
	"github.com/holdfast-dev/holdfast/test/fleetrepo"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

// sitePolicy has a root that takes two, a role for everything else, and one for a team's pool.
func sitePolicy() trust.Policy {
	return trust.Policy{Fleet: verifytest.Fleet, Roles: map[string]trust.Role{
		trust.RootRole: {Principals: []string{"alice", "bob", "carol"}, Threshold: 2, Paths: []string{"trust/**"}},
		"ops":          {Principals: []string{"alice", "bob", "carol", "erin"}, Threshold: 1, Paths: []string{"**"}},
		"rome":         {Principals: []string{"dora"}, Threshold: 1, Paths: []string{"pools/rome/**"}},
	}}
}

// berlin is the node's pool. Its plan bounds the time that the next revision may take.
func berlin(rack string) fleetrepo.Pool {
	p := fleetrepo.One("berlin", "n1", "rack", rack)
	p.More = `pool: agent: limits: cpu: "4s"`
	return p
}

func startFleet(t *testing.T) *fleetrepo.Fleet {
	return fleetrepo.StartPolicy(t, sitePolicy(), gitserver.Config{Plain: true}, berlin("7"), fleetrepo.One("rome", "n2", "rack", "1"))
}

// site is an agent that runs on a fleet repo of its own: Git over HTTP, children, signatures and CUE are real, only the Node
// is made up.
type site struct {
	*fleetrepo.Fleet
	t     *testing.T
	state string
	a     *Agent
	api   *fakeAPI
	log   *lockedBuffer
	// stolen is a key that was revoked.
	stolen *verifytest.Key
}

// enrolledState gives the state of a node that was enrolled at the first commit of startFleet's fleet, for startSite to copy.
func enrolledState(t *testing.T) string {
	t.Helper()
	state := tempState(t)
	enroll(t, startFleet(t), state, "n1", "berlin")
	return state
}

// startSite runs an agent on a copy of an enrolled node's state until the test ends.
func startSite(t *testing.T, template string, limits source.Limits) *site {
	t.Helper()
	s := &site{Fleet: startFleet(t), t: t, state: tempState(t) + "/s", api: newFakeAPI(), log: &lockedBuffer{}}
	if err := os.CopyFS(s.state, os.DirFS(template)); err != nil {
		t.Fatal(err)
	}
	cfg := followerConfig(s.state, store.Enrolment{URL: s.URL, Branch: verifytest.Branch}, source.Auth{}, nil)
	cfg.Source.Limits = limits
	follower, err := revision.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.a, err = Open(Options{
		Config: Config{State: s.state, Address: NoAddress, ProxyAddress: NoAddress, PodAddress: NoAddress}, Follower: follower, API: s.api,
		Log: slog.New(slog.NewTextHandler(s.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, a: s.a}
	stop := n.run()
	t.Cleanup(func() {
		stop()
		if err := s.a.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// sync is `holdfast-agent sync`: what comes of it is what `holdfast-agent status` shows.
func (s *site) sync() Status {
	s.t.Helper()
	st, err := Control{State: s.state}.Sync(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

// started waits until the stored plan is on the Node, and gives the status.
func (s *site) started() Status {
	s.t.Helper()
	<-s.api.applied
	st, err := ReadStatus(s.t.Context(), s.state)
	if err != nil || s.api.label("rack") != "7" {
		s.t.Fatalf("rack=%s, %v", s.api.label("rack"), err)
	}
	return st
}

// taken checks that the newest revision is in force and on the Node, and that nothing is wrong.
func (s *site) taken(rack string) Status {
	s.t.Helper()
	st := s.sync()
	for _, typ := range []string{condition.Ready, condition.SourceReady, condition.Verified, condition.PlanReady, condition.NodePoolReady} {
		if c, _ := condition.Get(st.Conditions, typ); c.Status != condition.True {
			s.t.Fatalf("%s is %s: %s", typ, c.Reason, c.Message)
		}
	}
	if tip := s.Tip(); st.Revision != tip || st.PlanRevision != tip || s.api.label("rack") != rack {
		s.t.Fatalf("revision %s, plan of %s, rack=%s; want %s and %s", st.Revision, st.PlanRevision, s.api.label("rack"), tip, rack)
	}
	return st
}

// keeps checks that the node is as it was when good was its status, and says everywhere why: in its log, its status, a
// condition and a metric.
func (s *site) keeps(good Status, rack, typ, reason, says string) {
	s.t.Helper()
	st := s.sync()
	inForce := s.a.store.State().InForce
	if st.PlanDigest != good.PlanDigest || st.PlanRevision != good.PlanRevision || inForce.Digest != good.PlanDigest || inForce.Revision != good.PlanRevision {
		s.t.Fatalf("the plan in force is %s of %s, was %s of %s", st.PlanDigest, st.PlanRevision, good.PlanDigest, good.PlanRevision)
	}
	if s.api.label("rack") != rack {
		s.t.Fatalf("the Node has rack=%s, want %s", s.api.label("rack"), rack)
	}
	c, _ := condition.Get(st.Conditions, typ)
	if c.Status != condition.False || c.Reason != reason || !strings.Contains(c.Message, says) {
		s.t.Fatalf("%s is %s %s: %s\n%+v\nlog: %s", typ, c.Status, c.Reason, c.Message, st.Conditions, s.log)
	}
	switch {
	case typ != condition.SourceReady:
		s.remembers(st, reason, says)
	case reason == condition.ReasonTooLarge && (len(st.Rejected) == 0 || st.Rejected[0].Tip != s.Tip() || !strings.Contains(c.Message, s.Tip()[:12])):
		s.t.Fatalf("%s, rejected: %+v", c.Message, st.Rejected)
	}
	if log := s.log.String(); !strings.Contains(log, "reason="+reason) {
		s.t.Fatalf("log: %s", log)
	}
	if metric(s.t, s.a, "holdfast_agent_condition", typ, "False", reason) != 1 {
		s.t.Fatal("no metric has the condition")
	}
}

// remembers checks what a revision that was fetched leaves behind: it is in the status, it makes the node unready, and it
// is counted.
func (s *site) remembers(st Status, reason, says string) {
	s.t.Helper()
	if c, _ := condition.Get(st.Conditions, condition.Ready); c.Status != condition.False || c.Reason != reason {
		s.t.Fatalf("Ready is %s %s", c.Status, c.Reason)
	}
	if len(st.Rejected) == 0 || st.Rejected[0].Tip != s.Tip() || st.Rejected[0].Reason != reason || !strings.Contains(st.Rejected[0].Message, says) {
		s.t.Fatalf("rejected: %+v", st.Rejected)
	}
	if metric(s.t, s.a, "holdfast_agent_verdicts_total", reason)+metric(s.t, s.a, "holdfast_agent_planless_total", reason) == 0 {
		s.t.Fatal("no metric counts it")
	}
}

// reported says whether the EdgeNode's status has that condition as False for that reason.
func (f *fakeAPI) reported(typ, reason string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	conds, _ := f.status["conditions"].([]any)
	for _, raw := range conds {
		if c, _ := raw.(map[string]any); c["type"] == typ && c["status"] == "False" && c["reason"] == reason {
			return true
		}
	}
	return false
}

// lockedBuffer is a log that is written while it is read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}
