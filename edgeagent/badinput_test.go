// These tests start hundreds of children, which the race detector makes ten times as slow and cannot look into: `make unit`
// leaves them out, and `make e2e` runs them.

//go:build e2e || !race

package edgeagent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/source"
	"github.com/holdfast-dev/holdfast/test/fleetrepo"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

// TestBadInput has a running node meet every kind of bad revision. Whatever it is, the plan in force stays, the node says why,
// and takes the next good revision once the bad one is off the branch. Packages policy/verify, source and fleet test each
// rule in depth.
func TestBadInput(t *testing.T) {
	template := enrolledState(t)
	for name, c := range badRevisions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSite(t, template, source.Limits{})
			good := s.started()
			if c.before != nil {
				c.before(s)
				good = s.taken("7")
			}
			s.log.Reset()
			c.bad(s)
			s.keeps(good, "7", c.typ, c.reason, c.says)
			trusted := s.a.store.State().Trust
			s.SetRef("refs/heads/"+verifytest.Branch, trusted.Accepted)
			s.Commit(verifytest.Commit{Files: berlin("9").File(), By: s.Key("carol"), Date: time.Unix(trusted.Floor, 0).Add(time.Minute)})
			s.taken("9")
		})
	}
}

// TestBadInputReachesTheCluster: the condition is in EdgeNode.status, too.
func TestBadInputReachesTheCluster(t *testing.T) {
	t.Parallel()
	s := startSite(t, enrolledState(t), source.Limits{})
	good := s.started()
	s.PushUnsigned(berlin("8").File())
	s.keeps(good, "7", condition.Verified, verify.Unsigned, "")
	for _, typ := range []string{condition.Verified, condition.Ready} {
		eventually(t, "a report", func() bool { return s.api.reported(typ, verify.Unsigned) })
	}
}

// TestGitServerInTrouble is the same for servers that do not answer as they should.
func TestGitServerInTrouble(t *testing.T) {
	template := enrolledState(t)
	quick := source.Limits{PollTimeout: 500 * time.Millisecond, FetchTimeout: 2 * time.Second, IdleTimeout: 500 * time.Millisecond}
	for name, c := range map[string]struct {
		fault  gitserver.Fault
		reason string
	}{
		"hanging":             {gitserver.Hanging, condition.ReasonUnreachable},
		"black-holed":         {gitserver.BlackHole, condition.ReasonUnreachable},
		"an error":            {gitserver.Answer(503), condition.ReasonUnreachable},
		"a refusal":           {gitserver.Answer(403), condition.ReasonAuthFailed},
		"cut":                 {gitserver.CutAfter(10), condition.ReasonUnreachable},
		"garbage":             {gitserver.Garbage, condition.ReasonProtocolError},
		"a guest network":     {gitserver.Page, condition.ReasonProtocolError},
		"stops in the middle": {gitserver.StallAfter(300, nil), condition.ReasonUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSite(t, template, quick)
			good := s.started()
			s.Set(berlin("8"))
			s.Git.Set(c.fault)
			s.keeps(good, "7", condition.SourceReady, c.reason, "")
			s.Git.Set(gitserver.Healthy)
			eventually(t, "a poll", func() bool { // a connection in the black hole stays there
				c, _ := condition.Get(s.sync().Conditions, condition.SourceReady)
				return c.Status == condition.True
			})
			s.taken("8")
		})
	}
	t.Run("down", func(t *testing.T) {
		s := startSite(t, template, quick)
		good := s.started()
		s.Set(berlin("8"))
		if err := s.Git.Down(); err != nil {
			t.Fatal(err)
		}
		s.keeps(good, "7", condition.SourceReady, condition.ReasonUnreachable, "refused")
		if err := s.Git.Up(); err != nil {
			t.Fatal(err)
		}
		s.taken("8")
	})
}

// TestSleeper: a node that slept finds its way: through three changes of trust in order, and by a signed movedTo.
func TestSleeper(t *testing.T) {
	template := enrolledState(t)
	t.Run("three rotations", func(t *testing.T) {
		t.Parallel()
		s := startSite(t, template, source.Limits{})
		for _, who := range []string{"alice", "bob", "carol"} {
			rotated(s, who, map[string]string{"alice": "bob", "bob": "carol", "carol": "alice"}[who])
		}
		s.Set(berlin("8")) // by carol's newest key
		s.taken("8")
	})
	t.Run("moved", func(t *testing.T) {
		t.Parallel()
		s := startSite(t, template, source.Limits{})
		left := fleetrepo.Pool{Name: "berlin", MovedTo: map[string]string{"n1": "paris"}}
		s.Set(fleetrepo.One("paris", "n1", "rack", "7"))
		s.Set(left)
		if st := s.taken("7"); st.Pool != "paris" {
			t.Fatalf("the node is in %s", st.Pool)
		}
	})
	t.Run("a pool that comes later", func(t *testing.T) {
		t.Parallel()
		f := startFleet(t)
		state := tempState(t)
		if e := enroll(t, f, state, "n1", "oslo"); len(e.Warnings) != 1 || !strings.Contains(e.Warnings[0], "pools/oslo") {
			t.Fatalf("%+v", e)
		}
		api := newFakeAPI()
		a, err := Open(Options{Config: Config{State: state, Address: NoAddress, ProxyAddress: NoAddress, PodAddress: NoAddress}, API: api})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		n := &node{t: t, a: a, state: state}
		err = n.poll()
		n.want(condition.PlanReady, "False "+condition.ReasonPoolAbsent)
		f.Set(fleetrepo.One("oslo", "n1", "rack", "7"))
		n.must(errors.Join(err, n.poll()))
		n.inForce("7")
		n.want(condition.Ready, "Unknown Pending") // the plan has not been applied yet
	})
}

// TestAnotherPoolNamesANewNode: a node that was enrolled without a pool, and has no plan yet, takes none that is contested. It
// says which pools are at odds, and enrolling it again with --pool settles it.
func TestAnotherPoolNamesANewNode(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	f.Push("dora", fleetrepo.One("rome", "n1", "rack", "1").File()) // who may change rome alone
	state := tempState(t)
	if e := enroll(t, f, state, "n1", ""); len(e.Warnings) != 1 || !strings.Contains(e.Warnings[0], "pools berlin and rome name node n1") {
		t.Fatalf("%+v", e)
	}
	poll := func() *node {
		a, err := Open(Options{Config: Config{State: state, Address: NoAddress, ProxyAddress: NoAddress, PodAddress: NoAddress}, API: newFakeAPI()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close() })
		n := &node{t: t, a: a, state: state}
		n.must(n.poll())
		return n
	}
	n := poll()
	c := n.want(condition.PlanReady, "False "+condition.ReasonDuplicateNode)
	for _, text := range []string{"pools berlin and rome name node n1", "holdfast-agent enroll … --pool berlin"} {
		if !strings.Contains(c.Message, text) {
			t.Errorf("message %q does not say %q", c.Message, text)
		}
	}
	n.inForce("")
	n.must(n.a.Close())
	if e := enroll(t, f, state, "n1", "berlin"); !e.Already || e.Pool != "berlin" {
		t.Fatalf("%+v", e)
	}
	if e := enroll(t, f, state, "n1", ""); e.Pool != "berlin" || len(e.Warnings) != 0 { // renewing credentials forgets it not
		t.Fatalf("%+v", e)
	}
	n = poll()
	n.inForce("7")
	n.want(condition.PlanReady, "True Planned")
	n.must(n.a.Close())
	if e := enroll(t, f, state, "n1", "rome"); e.Pool != "berlin" || len(e.Warnings) != 1 || !strings.Contains(e.Warnings[0], "movedTo") {
		t.Fatalf("%+v", e)
	}
}
