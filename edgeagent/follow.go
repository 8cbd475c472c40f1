package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/store"
	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

const (
	// firstInterval is how often to poll while there is no plan that says.
	firstInterval = time.Minute
	// firstPoll bounds the random wait before the first poll: a site that gets its power back starts all at once.
	firstPoll = 5 * time.Second
)

// command asks the follow loop, which alone uses the follower, to do something between two polls.
type command struct {
	run  func(ctx context.Context) error
	done chan error
}

// follow polls until ctx ends.
func (a *Agent) follow(ctx context.Context) {
	failures := 0
	timer := time.NewTimer(reconciler.Jitter(firstPoll))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			if a.poll(ctx) != nil {
				failures++
			} else {
				failures = 0
			}
		case c := <-a.commands:
			err := c.run(ctx)
			if err == nil {
				failures = 0
			}
			c.done <- err
		}
		timer.Reset(source.Delay(a.interval(), failures, rand.Float64()))
	}
}

// interval is the mean time between polls.
func (a *Agent) interval() time.Duration {
	if f := a.store.State().InForce; f != nil && f.Plan.Agent.PollInterval > 0 {
		return time.Duration(f.Plan.Agent.PollInterval)
	}
	return firstInterval
}

// poll looks whether anything is new and, if so, takes it as far as it goes: fetch, verify, plan, store, apply. The error
// is one that time may mend; a rejected revision is none.
func (a *Agent) poll(ctx context.Context) error {
	defer func() { a.board.set(a.stale()) }()
	refs, err := a.follower.Poll(ctx)
	a.metrics.poll(err)
	if err != nil || refs == a.handled {
		return a.sourced(ctx, err)
	}
	a.opt.Step("polled")
	if err := a.fetch(ctx, refs); err != nil {
		return err
	}
	a.fetched = time.Now()
	a.opt.Step("fetched")
	verdict, err := a.judge(ctx, refs)
	if err != nil {
		return err
	}
	a.opt.Step("verified")
	if verdict.Accepted {
		err = a.accept(ctx, verdict.State, refs)
	} else {
		err = a.reject(refs, verdict)
	}
	if err == nil {
		a.handled = refs
	}
	return err
}

// fetch brings the clone to refs. A revision that is too large to be fetched is among the rejected, too.
func (a *Agent) fetch(ctx context.Context, refs source.Refs) error {
	err := a.follower.Fetch(ctx, refs)
	if reason, message := revision.Explain(err); reason == condition.ReasonTooLarge {
		err = errors.Join(fmt.Errorf("revision %s: %w", short(refs.Tip), err), a.remember(refs, reason, message, refs.Tip))
	}
	if err != nil {
		return a.sourced(ctx, err)
	}
	return nil
}

// sourced puts up how reading the fleet repo went, and gives the error back.
func (a *Agent) sourced(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c := condition.Condition{Type: condition.SourceReady, Status: condition.True, Reason: condition.ReasonFetched}
	if err != nil {
		c.Status = condition.False
		c.Reason, c.Message = revision.Explain(err)
		a.log.Warn("read fleet repo", "reason", c.Reason, "err", c.Message)
	}
	a.board.set(c)
	return err
}

// judge gives the verdict on what was fetched. A revision that takes more to judge than a node gives for it is rejected, too;
// since a busy machine can be why, the error has it tried again, less and less often.
func (a *Agent) judge(ctx context.Context, refs source.Refs) (verify.Verdict, error) {
	var kept error // a full disk is not the Git server's fault
	keep := func(trust verify.State) error {
		kept = a.advance(trust, refs)
		return kept
	}
	v, err := a.follower.Verify(ctx, a.store.State().Trust, refs, time.Time{}, keep) // wall time never decides here
	if kept != nil {
		return v, errors.Join(kept, a.sourced(ctx, nil))
	}
	if reason, message := revision.Explain(err); reason == condition.ReasonTooLarge {
		v = verify.Verdict{Reason: verify.TooLarge, Message: message, Commit: refs.Tip}
		a.metrics.verdict(v.Reason)
		return v, errors.Join(err, a.sourced(ctx, nil), a.reject(refs, v))
	}
	if err := a.sourced(ctx, err); err != nil {
		return v, err
	}
	a.metrics.verdict(v.Reason)
	return v, nil
}

// advance stores the trust of a commit on the way to a tip that is far ahead. It is accepted like any revision, and no plan is
// made of it: the tip's will do.
func (a *Agent) advance(trust verify.State, refs source.Refs) error {
	if err := a.stored(a.store.Accept(trust, a.store.State().InForce)); err != nil {
		a.log.Error("store trust: the plan in force stays", "revision", trust.Accepted, "err", err)
		return err
	}
	a.log.Info("commits accepted on the way to the newest revision", "accepted", trust.Accepted, "revision", refs.Tip)
	a.board.update(func(r *condition.Report) {
		r.Revision = trust.Accepted
		r.Conditions = condition.Set(r.Conditions, condition.Condition{Type: condition.Verified, Status: condition.Unknown, Reason: verify.Unfinished,
			Message: fmt.Sprintf("revision %s: every commit up to %s is accepted, and more are left to judge", short(refs.Tip), short(trust.Accepted))}, a.opt.Now())
	})
	return nil
}

// reject remembers a revision that trust does not allow. Plan and trust stay as they are.
func (a *Agent) reject(refs source.Refs, v verify.Verdict) error {
	a.log.Warn("revision rejected: the plan in force stays", "revision", refs.Tip, "reason", v.Reason, "commit", v.Commit, "message", v.Message)
	a.board.set(condition.Condition{Type: condition.Verified, Status: condition.False, Reason: v.Reason, Message: fmt.Sprintf("revision %s: %s", short(refs.Tip), v.Message)})
	return a.remember(refs, v.Reason, v.Message, v.Commit)
}

func (a *Agent) remember(refs source.Refs, reason, message, commit string) error {
	return a.stored(a.store.Reject(store.Rejected{Tip: refs.Tip, Notes: refs.Notes, Reason: reason, Message: message, Commit: commit, At: a.opt.Now().UTC().Truncate(time.Second)}))
}

// accept computes the plan of a revision that trust allows, stores trust and plan in one commit, and has it applied. If the
// revision gives this node no plan, trust moves on all the same and the plan in force stays.
func (a *Agent) accept(ctx context.Context, trust verify.State, refs source.Refs) error {
	before := a.store.State()
	next, planErr := a.plan(ctx, before, trust.Accepted)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a.opt.Step("planned")
	inForce := before.InForce
	if planErr == nil {
		inForce = &store.InForce{Revision: trust.Accepted, Plan: *next, Digest: next.Digest()}
	}
	if err := a.stored(a.store.Accept(trust, inForce)); err != nil {
		a.log.Error("store revision: the plan in force stays", "revision", trust.Accepted, "err", err)
		return err
	}
	if trust.Accepted != before.Trust.Accepted {
		a.log.Info("revision accepted", "revision", trust.Accepted)
	}
	a.accepted(trust, inForce, planErr)
	if planErr != nil {
		return a.planless(refs, trust.Accepted, planErr)
	}
	if before.InForce == nil || before.InForce.Digest != inForce.Digest {
		a.log.Info("new plan", "pool", inForce.Plan.Pool, "revision", trust.Accepted, "digest", inForce.Digest)
		a.opt.Step("applying")
		a.metrics.applying(a.fetched)
		a.enforce(inForce.Plan)
	}
	return nil
}

// plan gives this node's plan at a commit.
func (a *Agent) plan(ctx context.Context, s store.State, commit string) (*plan.Node, error) {
	pool := s.Enrolment.Pool
	if s.InForce != nil {
		pool = s.InForce.Plan.Pool
	}
	return choose(ctx, a.follower, commit, s.Enrolment.Node, pool)
}

// accepted puts up what an accepted revision came to.
func (a *Agent) accepted(trust verify.State, inForce *store.InForce, planErr error) {
	planned := condition.Condition{Type: condition.PlanReady, Status: condition.True, Reason: condition.ReasonPlanned}
	if planErr != nil {
		reason, message := revision.Explain(planErr)
		planned.Status, planned.Reason, planned.Message = condition.False, reason, fmt.Sprintf("revision %s: %s", short(trust.Accepted), message)
	}
	a.board.update(func(r *condition.Report) {
		r.Revision = trust.Accepted
		if inForce != nil {
			r.Pool, r.PlanDigest = inForce.Plan.Pool, inForce.Digest
		}
		r.Conditions = condition.Set(r.Conditions, condition.Condition{Type: condition.Verified, Status: condition.True, Reason: condition.ReasonAccepted}, a.opt.Now())
		r.Conditions = condition.Set(r.Conditions, planned, a.opt.Now())
	})
}

// planless remembers that an accepted revision gives this node no plan. If another try may come to another end the error
// is given back.
func (a *Agent) planless(refs source.Refs, commit string, planErr error) error {
	reason, message := revision.Explain(planErr) // bounded: CUE can be wrong in many places
	a.log.Warn("no plan: the plan in force stays", "revision", commit, "reason", reason, "err", message)
	a.metrics.planless(reason)
	switch reason {
	case condition.ReasonNodeAbsent, condition.ReasonPoolAbsent, condition.ReasonDuplicateNode, condition.ReasonInvalidFleet, condition.ReasonTooLarge:
		return a.remember(refs, reason, message, commit)
	}
	return errors.Join(planErr, a.remember(refs, reason, message, commit))
}

// stale says whether the newest accepted revision is older than the fleet allows. It informs and stops nothing.
func (a *Agent) stale() condition.Condition {
	c := condition.Condition{Type: condition.Stale, Status: condition.False, Reason: condition.ReasonFresh}
	s := a.store.State()
	if s.InForce == nil || s.InForce.Plan.Agent.Freshness == 0 {
		return c
	}
	limit := time.Duration(s.InForce.Plan.Agent.Freshness)
	made := time.Unix(s.Trust.Floor, 0)
	if age := a.opt.Now().Sub(made); age > limit { // a clock behind the newest commit is wrong, and says nothing
		c.Status, c.Reason = condition.True, condition.ReasonTooOld
		c.Message = fmt.Sprintf("the newest accepted revision was made at %s; the fleet allows %s; the plan in force stays", made.UTC().Format(time.RFC3339), limit)
	}
	return c
}

func short(commit string) string { return commit[:min(len(commit), 12)] }
