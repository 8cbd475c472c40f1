package edgeagent

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// farBehind gives a node whose plan in force is of good, that many commits behind the branch; a verdict pauses every second
// commit.
func farBehind(t *testing.T, commits int) (n *node, good string) {
	t.Helper()
	n = enrolled(t, "berlin")
	good = n.f.push(pool("berlin", "7", "n1"))
	n.must(n.poll())
	for range commits {
		n.f.push(pool("berlin", "8", "n1"))
	}
	n.f.stint, n.f.calls = 2, nil
	n.log.Reset()
	return n, good
}

// TestFarBehind: trust moves on to commits on the way, is remembered, and the plan is the tip's alone.
func TestFarBehind(t *testing.T) {
	n, good := farBehind(t, 9)
	n.f.stintErr = reasonError{condition.ReasonUnreachable} // the clone rots, and the Git server is away
	if n.poll() == nil {
		t.Fatal("the follow loop is to back off")
	}
	way := n.a.store.State().Trust.Accepted
	if way == good || way == n.f.repo.Tip() {
		t.Fatalf("trust is at %s", way)
	}
	if c := n.want(condition.Verified, "Unknown "+verify.Unfinished); !strings.Contains(c.Message, short(way)) || !strings.Contains(c.Message, short(n.f.repo.Tip())) {
		t.Errorf("message %q", c.Message)
	}
	n.want(condition.SourceReady, "False "+condition.ReasonUnreachable)
	if f := n.inForce("7"); f.Revision != good || mustReport(n).Revision != way {
		t.Errorf("the plan is of %s, reported is %s", f.Revision, mustReport(n).Revision)
	}

	n.open()
	n.f.stintErr = nil
	n.must(n.poll())
	n.want(condition.Verified, "True Accepted")
	if f := n.inForce("8"); f.Revision != n.f.repo.Tip() || n.a.store.State().Trust.Accepted != n.f.repo.Tip() {
		t.Errorf("the plan is of %s", f.Revision)
	}
	if got := slices.DeleteFunc(n.f.calls, func(c string) bool { return !strings.HasPrefix(c, "pool") }); len(got) != 1 {
		t.Errorf("evaluated %v", got)
	}
	if metric(t, n.a, "holdfast_agent_verdicts_total", verify.Accepted) != 1 || strings.Count(n.log.String(), "on the way") < 3 {
		t.Errorf("log: %s", n.log)
	}
}

// TestFarBehindABadCommit: the plan in force stays, and so does what was accepted before the bad commit.
func TestFarBehindABadCommit(t *testing.T) {
	n, good := farBehind(t, 6)
	last, bad := n.f.repo.Tip(), n.f.repo.PushUnsigned(verifytest.Files{"x": "y"})
	n.f.push(pool("berlin", "9", "n1"))
	n.must(n.poll())
	n.want(condition.Verified, "False "+verify.Unsigned)
	if f := n.inForce("7"); f.Revision != good || n.a.store.State().Trust.Accepted == good {
		t.Errorf("the plan is of %s, trust at %s", f.Revision, n.a.store.State().Trust.Accepted)
	}
	if r := n.a.status().Rejected; len(r) != 1 || r[0].Commit != bad {
		t.Errorf("rejected %+v", r)
	}
	n.f.repo.SetRef("refs/heads/main", last)
	n.must(n.poll())
	n.inForce("8")
	n.want(condition.Verified, "True Accepted")
}

// TestFarBehindOnAFullDisk: what cannot be stored is not gone on from, and the Git server is not to blame.
func TestFarBehindOnAFullDisk(t *testing.T) {
	n, good := farBehind(t, 6)
	if err := n.a.store.Close(); err != nil {
		t.Fatal(err)
	}
	err := n.poll()
	var reason interface{ StableReason() string }
	if !errors.As(err, &reason) || reason.StableReason() != condition.ReasonWriteFailed {
		t.Fatalf("got %v", err)
	}
	n.want(condition.SourceReady, "True Fetched")
	n.want(condition.StateReady, "False "+condition.ReasonWriteFailed)
	n.want(condition.Verified, "True Accepted")
	if got := n.a.store.State().Trust.Accepted; got != good {
		t.Errorf("trust is at %s", got)
	}
}
