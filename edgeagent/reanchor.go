package edgeagent

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// Reanchor takes a commit of the fleet repo, vouched for out of band, as the new anchor, whatever trust said until now: the
// last resort of local root when history had to be rewritten and no re-anchor record was signed. The fleet stays the same.
func (a *Agent) Reanchor(ctx context.Context, commit string) error {
	return a.do(ctx, func(ctx context.Context) error { return a.reanchor(ctx, commit) })
}

func (a *Agent) reanchor(ctx context.Context, commit string) error {
	refs, err := a.follower.Poll(ctx)
	if err == nil {
		err = a.follower.Fetch(ctx, refs)
	}
	if err := a.sourced(ctx, err); err != nil {
		return err
	}
	before := a.store.State().Trust
	trust, _, err := anchor(ctx, a.follower, before.Fleet, commit, refs)
	if err != nil {
		return err
	}
	trust.Generation = before.Generation + 1
	if err := a.stored(a.store.Accept(trust, a.store.State().InForce)); err != nil {
		return err
	}
	a.log.Warn("re-anchored by local root", "anchor", trust.Anchor, "accepted before", before.Accepted)
	a.handled = source.Refs{}
	if err := a.accept(ctx, trust, source.Refs{Tip: trust.Accepted}); err != nil {
		return err
	}
	return a.poll(ctx)
}

// anchor gives the trust that starts at a commit of what was fetched, and the verdict on the branch from there. The branch must
// contain it, and it must be of the fleet, unless fleet is "".
func anchor(ctx context.Context, f Follower, fleet, commit string, refs source.Refs) (verify.State, verify.Verdict, error) {
	trust, err := f.Enrol(ctx, commit)
	if err != nil {
		return verify.State{}, verify.Verdict{}, fmt.Errorf("anchor %s: %w", commit, err)
	}
	if fleet != "" && trust.Fleet != fleet {
		return verify.State{}, verify.Verdict{}, fmt.Errorf("anchor %s is of fleet %q, this node belongs to fleet %q: enrol it anew to move it (holdfast-agent unenroll, then enroll)", commit, trust.Fleet, fleet)
	}
	verdict, err := f.Verify(ctx, trust, refs, time.Time{}, nil)
	if err == nil && verdict.Reason == verify.NotDescendant {
		err = &verify.Rejection{Reason: verdict.Reason, Commit: verdict.Commit,
			Message: fmt.Sprintf("anchor %s is not on the first-parent path of the branch, whose tip is %s: take a commit of this branch", commit, refs.Tip)}
	}
	return trust, verdict, err
}

// ReanchorStopped is Reanchor for a node whose agent does not run. Only State, Version and Log of the options count.
func ReanchorStopped(ctx context.Context, o Options, commit string) (Status, error) {
	a, err := Open(Options{Config: Config{State: o.State, Address: NoAddress}, Version: o.Version, Log: o.Log, Follower: o.Follower, API: o.API})
	if err != nil {
		return Status{}, err
	}
	defer a.Close()
	if err := a.reanchor(ctx, commit); err != nil {
		return Status{}, err
	}
	a.keepNow()
	return a.status(), a.Close()
}
