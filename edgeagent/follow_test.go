package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

func TestAcceptedRevisionComesIntoForce(t *testing.T) {
	n := enrolled(t, "berlin")
	n.want(condition.Ready, "Unknown Pending")
	id := n.f.push(pool("berlin", "7", "n1", "n2"))
	n.must(n.poll())
	f := n.inForce("7")
	report, _ := n.a.board.latest()
	if report.Revision != id || report.PlanDigest != f.Digest || report.Pool != "berlin" || report.AgentVersion != "v1.2.3" || f.Revision != id {
		t.Fatalf("report %+v, in force %+v", report, f)
	}
	n.want(condition.Verified, "True Accepted")
	n.want(condition.PlanReady, "True Planned")
	n.want(condition.SourceReady, "True Fetched")
	n.want(condition.Stale, "False Fresh")
	// A revision that changes nothing for this node moves trust on and leaves the plan's digest.
	next := n.f.push(pool("berlin", "7", "n1"))
	n.must(n.poll())
	if s := n.a.store.State(); s.InForce.Digest != f.Digest || s.InForce.Revision != next || s.Trust.Accepted != next {
		t.Fatalf("%+v", s.InForce)
	}
	// Nothing new: one poll and nothing else.
	n.f.calls = nil
	n.must(n.poll())
	if strings.Join(n.f.calls, " ") != "poll" {
		t.Fatalf("calls %v", n.f.calls)
	}
}

func TestLabelsReachTheNodeAndTheReportTheCluster(t *testing.T) {
	n := enrolled(t, "berlin")
	n.run()
	id := n.f.push(pool("berlin", "7", "n1"))
	if _, err := (Control{State: n.state}).Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.api.mu.Lock()
	if n.api.labels["rack"] != "7" {
		t.Fatalf("labels %v", n.api.labels)
	}
	n.api.mu.Unlock()
	eventually(t, "a report", func() bool {
		n.api.mu.Lock()
		defer n.api.mu.Unlock()
		return n.api.status["revision"] == id
	})
}

// metric gives the sum of a metric's values with these labels.
func metric(t *testing.T, a *Agent, name string, labels ...string) float64 {
	t.Helper()
	families, err := a.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if hasLabels(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func hasLabels(m *dto.Metric, values []string) bool {
	found := 0
	for _, l := range m.GetLabel() {
		for _, v := range values {
			if l.GetValue() == v {
				found++
			}
		}
	}
	return found == len(values)
}

// TestRejectedRevisions: whatever is wrong with a revision, the plan in force stays, and log, condition, status and metric say
// why. policy/verify tests each rule in depth; this tests what a node makes of a verdict.
func TestRejectedRevisions(t *testing.T) {
	for _, c := range []struct {
		reason string
		push   func(n *node)
	}{
		{verify.Unsigned, func(n *node) { n.f.repo.PushUnsigned(verifytest.Files{"x": "y"}) }},
		{verify.Unsigned, func(n *node) { // hidden under a signed one
			n.f.repo.PushUnsigned(verifytest.Files{"x": "y"})
			n.f.repo.Push("alice", verifytest.Files{"x": "z"})
		}},
		{verify.UnknownKey, func(n *node) {
			n.f.repo.MergeRequest(verifytest.Files{"x": "y"}, verifytest.NewKey(n.t, "forge"))
		}},
		{verify.PathNotPermitted, func(n *node) { n.f.repo.Push("carol", verifytest.Files{"trust/allowed_signers": "carol rules\n"}) }},
		{verify.NotDescendant, func(n *node) { n.f.repo.SetRef("refs/heads/main", n.f.repo.Anchor()) }},
		{verify.NotDescendant, func(n *node) { // history rewritten, signed all the same
			n.f.repo.Commit(verifytest.Commit{Parents: []string{n.f.repo.Anchor()}, Files: verifytest.Files{"x": "y"}, By: n.f.repo.Key("alice")})
		}},
		{verify.CommitDateImplausible, func(n *node) {
			n.f.repo.Commit(verifytest.Commit{Date: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC), By: n.f.repo.Key("alice")})
		}},
		{verify.TreeInvalid, func(n *node) {
			n.f.repo.Commit(verifytest.Commit{Submodules: verifytest.Files{"sub": n.f.repo.Anchor()}, By: n.f.repo.Key("alice")})
		}},
	} {
		t.Run(c.reason, func(t *testing.T) {
			n := enrolled(t, "berlin")
			good := n.f.push(pool("berlin", "7", "n1"))
			n.must(n.poll())
			before := n.a.store.State()
			c.push(n)
			n.log.Reset()
			n.must(n.poll())
			n.inForce("7")
			if got := n.a.store.State(); got.Trust.Accepted != good || got.Trust.Generation != before.Trust.Generation {
				t.Fatalf("trust moved to %s", got.Trust.Accepted)
			}
			n.want(condition.Verified, "False "+c.reason)
			n.want(condition.Ready, "False "+c.reason)
			n.want(condition.PlanReady, "True Planned")
			s := n.a.status()
			if len(s.Rejected) == 0 || s.Rejected[0].Reason != c.reason || s.Rejected[0].Tip != n.f.repo.Tip() || s.Rejected[0].Message == "" {
				t.Fatalf("status %+v", s.Rejected)
			}
			if !strings.Contains(n.log.String(), "reason="+c.reason) {
				t.Fatalf("log: %s", n.log)
			}
			if metric(t, n.a, "holdfast_agent_verdicts_total", c.reason) != 1 || metric(t, n.a, "holdfast_agent_condition", "Verified", "False", c.reason) != 1 {
				t.Fatal("no metric says so")
			}
			n.open() // a restart forgets neither the plan nor the reason
			n.inForce("7")
			n.want(condition.Verified, "False "+c.reason)
			n.must(n.poll())
			n.want(condition.Verified, "False "+c.reason)
			// Taking the bad commit away is enough.
			n.f.repo.SetRef("refs/heads/main", good)
			n.must(n.poll())
			n.want(condition.Verified, "True Accepted")
		})
	}
}

func TestLateCountersignatureReopensAVerdict(t *testing.T) {
	n := enrolled(t, "berlin")
	merge := n.f.repo.MergeRequest(verifytest.Files{"x": "y"}, verifytest.NewKey(t, "forge"))
	n.f.put(merge, pool("berlin", "7", "n1"))
	n.must(n.poll())
	n.want(condition.Verified, "False "+verify.UnknownKey)
	n.inForce("")
	n.f.calls = nil
	n.must(n.poll())
	if len(n.f.calls) != 1 {
		t.Fatalf("a rejected revision was looked at again: %v", n.f.calls)
	}
	n.f.repo.Countersign(merge, "bob")
	n.must(n.poll())
	n.want(condition.Verified, "True Accepted")
	n.inForce("7")
}

func TestThreeMissedTrustRotationsAreWalkedInOrder(t *testing.T) {
	n := enrolled(t, "berlin")
	n.f.push(pool("berlin", "7", "n1"))
	n.must(n.poll())
	p := verifytest.DefaultPolicy()
	signer := "alice"
	for _, next := range []string{"dora", "erik", "fay"} {
		role := p.Roles[trust.RootRole]
		role.Principals = []string{next, "bob"}
		p.Roles[trust.RootRole] = role
		n.f.repo.NewKeyFor(next)
		n.f.repo.Push(signer, n.f.repo.TrustFiles(p))
		signer = next
	}
	tip := n.f.push(pool("berlin", "8", "n1"))
	n.must(n.poll())
	n.want(condition.Verified, "True Accepted")
	n.inForce("8")
	if got := n.a.store.State().Trust.Accepted; got != tip {
		t.Fatalf("accepted %s", got)
	}
}

func TestRevisionsWithoutAPlan(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		pools        []*plan.Pool
		err          error
	}{
		{"node absent", condition.ReasonNodeAbsent, []*plan.Pool{pool("berlin", "8", "n2")}, nil},
		{"pool absent", condition.ReasonPoolAbsent, []*plan.Pool{pool("paris", "8", "n1")}, nil},
		{"moved in a circle", condition.ReasonNodeAbsent, []*plan.Pool{moved(pool("berlin", "8"), "n1", "paris"), moved(pool("paris", "8"), "n1", "berlin")}, nil},
		{"moved to nowhere", condition.ReasonPoolAbsent, []*plan.Pool{moved(pool("berlin", "8"), "n1", "atlantis")}, nil},
		{"moved to a pool that does not name it", condition.ReasonNodeAbsent, []*plan.Pool{moved(pool("berlin", "8"), "n1", "paris"), pool("paris", "8")}, nil},
		{"bad CUE", condition.ReasonInvalidFleet, nil, reasonError{condition.ReasonInvalidFleet}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := enrolled(t, "berlin")
			good := n.f.push(pool("berlin", "7", "n1"))
			n.must(n.poll())
			bad := n.f.push(c.pools...)
			n.f.poolErr = c.err
			n.log.Reset()
			n.must(n.poll())
			if f := n.inForce("7"); f.Revision != good {
				t.Fatalf("in force is %s", f.Revision)
			}
			if s := n.a.store.State(); s.Trust.Accepted != bad {
				t.Fatal("trust did not move on")
			}
			n.want(condition.Verified, "True Accepted")
			msg := n.want(condition.PlanReady, "False "+c.reason).Message
			n.want(condition.Ready, "False "+c.reason)
			if !strings.Contains(msg, bad[:12]) || !strings.Contains(n.log.String(), "reason="+c.reason) {
				t.Fatalf("message %q, log %s", msg, n.log)
			}
			if s := n.a.status(); s.Rejected[0].Reason != c.reason || s.PlanRevision != good || s.Revision != bad {
				t.Fatalf("status %+v", s)
			}
			if metric(t, n.a, "holdfast_agent_planless_total", c.reason) != 1 {
				t.Fatal("no metric says so")
			}
			n.f.calls = nil
			n.must(n.poll())
			if len(n.f.calls) != 1 {
				t.Fatalf("it was looked at again: %v", n.f.calls)
			}
			n.open()
			n.want(condition.PlanReady, "False "+c.reason)
			n.f.poolErr = nil
			n.f.push(pool("berlin", "9", "n1"))
			n.must(n.poll())
			n.inForce("9")
			n.want(condition.PlanReady, "True Planned")
		})
	}
}

func TestEvaluationOverItsLimitIsTriedAgain(t *testing.T) {
	n := enrolled(t, "berlin")
	n.f.push(pool("berlin", "7", "n1"))
	n.f.poolErr = reasonError{condition.ReasonEvaluationLimit}
	if n.poll() == nil {
		t.Fatal("the follow loop is to back off")
	}
	n.want(condition.PlanReady, "False "+condition.ReasonEvaluationLimit)
	n.f.poolErr = nil
	n.must(n.poll())
	n.inForce("7")
}

// TestJudgingOverItsLimitIsARejection: the revision was fetched, so the Git server is not at fault; and it is tried again.
func TestJudgingOverItsLimitIsARejection(t *testing.T) {
	n := enrolled(t, "berlin")
	good := n.f.push(pool("berlin", "7", "n1"))
	n.must(n.poll())
	bad := n.f.push(pool("berlin", "8", "n1"))
	n.f.verifyErr = fmt.Errorf("child: %w", reasonError{condition.ReasonTooLarge})
	if n.poll() == nil {
		t.Fatal("the follow loop is to back off")
	}
	n.inForce("7")
	n.want(condition.SourceReady, "True Fetched")
	n.want(condition.Ready, "False "+verify.TooLarge)
	if c := n.want(condition.Verified, "False "+verify.TooLarge); !strings.Contains(c.Message, bad[:12]) {
		t.Errorf("message %q", c.Message)
	}
	if s := n.a.status(); len(s.Rejected) != 1 || s.Rejected[0].Tip != bad || s.Rejected[0].Reason != verify.TooLarge || s.Revision != good {
		t.Errorf("status %+v", s)
	}
	if metric(t, n.a, "holdfast_agent_verdicts_total", verify.TooLarge) != 1 {
		t.Error("no metric says so")
	}
	n.f.verifyErr = nil
	n.must(n.poll())
	n.inForce("8")
	n.want(condition.Verified, "True Accepted")
}

func TestMovedNodesFollow(t *testing.T) {
	n := enrolled(t, "berlin")
	n.f.push(pool("berlin", "7", "n1"))
	n.must(n.poll())
	n.f.push(moved(pool("berlin", "8"), "n1", "paris"), moved(pool("paris", "8"), "n1", "rome"), pool("rome", "8", "n1"))
	n.must(n.poll())
	n.inForce("8")
	if report, _ := n.a.board.latest(); report.Pool != "rome" {
		t.Fatalf("pool %s", report.Pool)
	}
	n.open() // remembered: berlin may go
	n.f.calls = nil
	n.f.push(pool("rome", "9", "n1"))
	n.must(n.poll())
	n.inForce("9")
	if got := strings.Join(n.f.calls, " "); got != "poll fetch verify pool rome" {
		t.Fatalf("calls %s", got)
	}
}

func TestPoolIsFoundWhenNoneWasNamed(t *testing.T) {
	n := enrolled(t, "")
	n.f.push(pool("berlin", "7", "n2"))
	n.must(n.poll())
	n.want(condition.PlanReady, "False "+condition.ReasonNodeAbsent)
	n.f.push(pool("berlin", "7", "n1"), pool("paris", "7", "n1"))
	n.must(n.poll())
	n.want(condition.PlanReady, "False "+condition.ReasonDuplicateNode)
	n.f.push(pool("berlin", "7", "n2"), pool("paris", "8", "n1"))
	n.must(n.poll())
	n.inForce("8")
	n.f.calls = nil
	n.f.push(pool("berlin", "7", "n1"), pool("paris", "9", "n1")) // remembered: others are not looked at
	n.must(n.poll())
	n.inForce("9")
	if got := strings.Join(n.f.calls, " "); got != "poll fetch verify pool paris" {
		t.Fatalf("calls %s", got)
	}
}

func TestTroubleWithTheGitServer(t *testing.T) {
	for _, reason := range []string{condition.ReasonUnreachable, condition.ReasonAuthFailed, condition.ReasonProtocolError, condition.ReasonBranchMissing, condition.ReasonTooLarge, condition.ReasonDiskFull} {
		for _, when := range []string{"poll", "fetch"} {
			t.Run(reason+" at "+when, func(t *testing.T) {
				n := enrolled(t, "berlin")
				n.f.push(pool("berlin", "7", "n1"))
				n.must(n.poll())
				n.f.push(pool("berlin", "8", "n1"))
				if when == "poll" {
					n.f.pollErr = reasonError{reason}
				} else {
					n.f.fetchErr = reasonError{reason}
				}
				n.log.Reset()
				changes := n.a.board.change()
				if n.poll() == nil {
					t.Fatal("the follow loop is to back off")
				}
				<-changes
				n.inForce("7")
				c := n.want(condition.SourceReady, "False "+reason)
				n.want(condition.Verified, "True Accepted")
				// Only a revision that was seen and is too large is refused, and named.
				tip, refused := n.f.repo.Tip(), reason == condition.ReasonTooLarge && when == "fetch"
				if list := n.a.status().Rejected; refused != (len(list) == 1 && list[0].Tip == tip && list[0].Reason == reason) || refused != strings.Contains(c.Message, tip[:12]) {
					t.Fatalf("%q, rejected %+v", c.Message, list)
				}
				if !strings.Contains(n.log.String(), "reason="+reason) || metric(t, n.a, "holdfast_agent_condition", "SourceReady", "False", reason) != 1 {
					t.Fatalf("log: %s", n.log)
				}
				// While it goes on nothing changes, so nothing is written or reported.
				changes = n.a.board.change()
				if n.poll() == nil {
					t.Fatal("the follow loop is to back off")
				}
				select {
				case <-changes:
					t.Fatal("a trouble that goes on is news")
				default:
				}
				n.f.pollErr, n.f.fetchErr = nil, nil
				n.must(n.poll())
				n.inForce("8")
				n.want(condition.SourceReady, "True Fetched")
			})
		}
	}
}

func TestWallClockDecidesNothing(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour, 365 * 24 * time.Hour, -365 * 24 * time.Hour, 10 * 365 * 24 * time.Hour, -30 * 365 * 24 * time.Hour} {
		t.Run(fmt.Sprint(off), func(t *testing.T) {
			n := enrolled(t, "berlin")
			n.clock = n.clock.Add(off)
			n.run()
			n.f.push(pool("berlin", "7", "n1"))
			s, err := Control{State: n.state}.Sync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			stale := "False Fresh"
			if off > 24*time.Hour {
				stale = "True TooOld"
			}
			n.want(condition.Stale, stale)
			n.want(condition.Ready, "True Reconciled")
			n.inForce("7")
			n.api.mu.Lock()
			defer n.api.mu.Unlock()
			if n.api.labels["rack"] != "7" || len(s.Rejected) != 0 {
				t.Fatalf("labels %v, status %+v", n.api.labels, s)
			}
			for _, now := range n.f.nows {
				if !now.IsZero() {
					t.Fatalf("a verdict was given at %s", now)
				}
			}
		})
	}
}

// TestStartsFromTheStoredPlan: no Git server, no DNS, a wrong clock; the API server comes last.
func TestStartsFromTheStoredPlan(t *testing.T) {
	n := enrolled(t, "berlin")
	n.f.push(pool("berlin", "7", "n1"))
	n.must(n.poll())
	n.f.hang = true
	n.api.down = true
	n.clock = time.Date(1970, 1, 1, 0, 0, 5, 0, time.UTC)
	n.open()
	n.run()
	eventually(t, "a try", func() bool {
		report, _ := n.a.board.latest()
		c, _ := condition.Get(report.Conditions, condition.NodePoolReady)
		return c.Reason == condition.ReasonAPIUnreachable
	})
	n.api.mu.Lock()
	n.api.down = false
	n.api.mu.Unlock()
	eventually(t, "the plan", func() bool {
		n.api.mu.Lock()
		defer n.api.mu.Unlock()
		return n.api.labels["rack"] == "7"
	})
	n.want(condition.Stale, "False Fresh")
}

func TestUnreadableClone(t *testing.T) {
	n := enrolled(t, "berlin")
	n.f.push(pool("berlin", "7", "n1"))
	n.must(n.poll())
	n.f.repo.SetRef("refs/heads/main", strings.Repeat("e", 40)) // nothing there
	err := n.poll()
	if err == nil || errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	n.inForce("7")
	if c, _ := condition.Get(mustReport(n).Conditions, condition.SourceReady); c.Status != condition.False {
		t.Fatalf("%+v", c)
	}
}

func mustReport(n *node) condition.Report {
	r, _ := n.a.board.latest()
	return r
}
