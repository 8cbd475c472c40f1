package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/hub/rollup"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// maxFailures bounds the back-off: the hub asks again at most eight intervals later.
const maxFailures = 3

// tracker follows the fleet repo and publishes what it says. It runs on the leader only.
type tracker struct {
	follower revision.Path // Pool from several goroutines, everything else from one
	store    stateStore
	anchor   string
	interval time.Duration
	workers  int
	clock    func() time.Time
	random   func() float64
	log      *slog.Logger
	metrics  *metrics
	publish  func(*picture)
	// rejected is told of each newly rejected revision.
	rejected func(verify.Verdict)

	state    verify.State
	loaded   bool
	judged   source.Refs // the refs that were judged for good
	last     verify.Verdict
	finished string // the commit that was rolled out, or refused for good
	pic      picture
}

// run polls until ctx ends. It gives an error only if another hub has taken over.
func (t *tracker) run(ctx context.Context) error {
	pending := func(typ string) condition.Condition {
		return condition.Condition{Type: typ, Status: condition.Unknown, Reason: condition.ReasonPending, Message: "the hub has started and not got this far yet"}
	}
	t.pic = picture{source: pending(condition.SourceReady), verified: pending(condition.Verified), planned: pending(condition.PlanReady)}
	var published picture
	for failures := 0; ; {
		err := t.step(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errTakenOver):
			return err
		case err != nil:
			failures = min(failures+1, maxFailures)
			t.log.Warn("follow the fleet repo", "err", err)
		default:
			failures = 0
		}
		if t.pic.fleet != "" && t.pic != published {
			published = t.pic
			next := t.pic
			t.publish(&next)
		}
		wait := time.NewTimer(source.Delay(t.interval, failures, t.random()))
		select {
		case <-ctx.Done():
			wait.Stop()
			return nil
		case <-wait.C:
		}
	}
}

// step goes once from poll to rollout. An error means: try again soon.
func (t *tracker) step(ctx context.Context) error {
	if err := t.load(ctx); err != nil {
		return err
	}
	refs, err := t.follower.Poll(ctx)
	if err == nil && (refs != t.judged || t.state.Accepted == "") {
		err = t.follower.Fetch(ctx, refs)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	t.say(&t.pic.source, condition.SourceReady, condition.ReasonFetched, "", err)
	t.metrics.source(err == nil)
	if err != nil {
		return errors.Join(err, t.rollOutOffline(ctx))
	}
	if refs != t.judged {
		if err := t.judge(ctx, refs); err != nil {
			return err
		}
	}
	return t.rollOut(ctx)
}

// load reads the stored state once. A changed anchor is an order from whoever runs the hub to start anew from there.
func (t *tracker) load(ctx context.Context) error {
	if t.loaded {
		return nil
	}
	stored, err := t.store.load(ctx)
	if err != nil {
		return fmt.Errorf("load the hub's state: %w", err)
	}
	if stored.Anchor == t.anchor {
		t.state = stored.State
	} else if stored.Anchor != "" {
		t.log.Warn("the anchor was changed: enrolling anew", "old", stored.Anchor, "new", t.anchor, "fleet", stored.State.Fleet)
	}
	t.pic.fleet = stored.State.Fleet
	t.loaded = true
	return nil
}

// enrol gives the first state, if there is none yet.
func (t *tracker) enrol(ctx context.Context) error {
	if t.state.Accepted != "" {
		return nil
	}
	state, err := t.follower.Enrol(ctx, t.anchor)
	if err != nil {
		return fmt.Errorf("enrol at %s: %w", rollup.Short(t.anchor), err)
	}
	if t.pic.fleet != "" && state.Fleet != t.pic.fleet {
		return fmt.Errorf("anchor %s is of fleet %q, this hub's is %q: delete the hub's state to have it serve another fleet", rollup.Short(t.anchor), state.Fleet, t.pic.fleet)
	}
	if err := t.save(ctx, state); err != nil {
		return err
	}
	t.pic.fleet = state.Fleet
	t.log.Info("enrolled", "fleet", state.Fleet, "revision", state.Accepted)
	return nil
}

// judge asks for the verdict on refs and stores what follows from it before anything else does.
func (t *tracker) judge(ctx context.Context, refs source.Refs) error {
	err := t.enrol(ctx)
	var v verify.Verdict
	if err == nil {
		v, err = t.follower.Verify(ctx, t.state, refs, t.clock(), func(s verify.State) error { return t.save(ctx, s) })
	}
	if err == nil && v.Accepted && v.State.Generation != t.state.Generation {
		err = t.save(ctx, v.State)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		t.say(&t.pic.verified, condition.Verified, "", "", err)
		t.metrics.verified(false, t.pic.verified.Reason)
		return err
	}
	t.metrics.verified(v.Accepted, v.Reason)
	if v.Accepted {
		t.log.Info("revision accepted", "revision", t.state.Accepted)
		t.metrics.accepted(v.At)
		t.say(&t.pic.verified, condition.Verified, condition.ReasonAccepted, "the newest revision "+rollup.Short(refs.Tip)+" is accepted", nil)
	} else {
		t.reject(refs, v)
	}
	t.last = v
	// Time alone mends a date in the future; whatever else is wrong stays wrong until the refs move.
	if v.Reason != verify.CommitDateInFuture {
		t.judged = refs
	}
	return nil
}

func (t *tracker) reject(refs source.Refs, v verify.Verdict) {
	t.pic.verified = condition.Condition{Type: condition.Verified, Status: condition.False, Reason: v.Reason, Message: fmt.Sprintf(
		"revision %s is rejected and %s stays in force: %s", rollup.Short(refs.Tip), rollup.Short(t.state.Accepted), v.Message)}
	if v.Reason == t.last.Reason && v.Commit == t.last.Commit && v.Message == t.last.Message {
		return
	}
	t.log.Warn("revision rejected", "revision", refs.Tip, "commit", v.Commit, "reason", v.Reason, "message", v.Message)
	t.metrics.rejected(v.Reason)
	t.rejected(v)
}

func (t *tracker) save(ctx context.Context, state verify.State) error {
	if err := t.store.save(ctx, stored{Anchor: t.anchor, State: state}); err != nil {
		return fmt.Errorf("store the hub's state: %w", err)
	}
	t.state = state
	return nil
}

// rollOut evaluates the accepted revision and makes it the picture's, unless that is done already. Nodes that its pools are at
// odds about, such as one in two pools, are left as they are: who may change one pool must not be able to stop the others.
func (t *tracker) rollOut(ctx context.Context) error {
	commit := t.state.Accepted
	if commit == "" || commit == t.finished {
		return nil
	}
	names, err := t.follower.Pools(ctx, commit)
	if err != nil {
		return t.refuse(ctx, fmt.Errorf("read the pools of %s: %w", rollup.Short(commit), err))
	}
	plans, broken, retry := t.evaluate(ctx, commit, names)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if retry == nil {
		t.finished = commit
	}
	t.pic.rollout = newRollout(commit, plans, broken, t.clashes(commit, plans, broken), t.pic.rollout)
	t.say(&t.pic.planned, condition.PlanReady, condition.ReasonPlanned, "revision "+rollup.Short(commit)+" is rolled out", nil)
	t.metrics.rolledOut(t.pic.rollout)
	t.log.Info("rolling out", "revision", commit, "pools", len(names), "broken", len(broken), "nodes", len(t.pic.rollout.nodes))
	return retry
}

// clashes gives what the pools are at odds about.
func (t *tracker) clashes(commit string, plans []*plan.Pool, broken map[string]condition.Condition) clashes {
	var check fleet.Checker
	for _, p := range append(standIns(plans, broken), plans...) {
		check.Add(p)
	}
	problems := check.Problems()
	if len(problems) == 0 {
		return clashes{}
	}
	t.log.Warn("nodes that pools are at odds about are left as they are", "revision", commit, "err", problems)
	var c condition.Condition
	t.say(&c, condition.PlanReady, "", "", problems)
	nodes, pools := check.Contested()
	odds := clashes{nodes: nodes, pools: map[string]condition.Condition{}}
	for pool := range pools {
		odds.pools[pool] = c
	}
	return odds
}

// rollOutOffline is rollOut while the fleet repo does not answer: after a restart the clone may still have the accepted
// revision, so that nodes that come now get their marks. If it has not, that is not the revision's fault.
func (t *tracker) rollOutOffline(ctx context.Context) error {
	planned := t.pic.planned
	err := t.rollOut(ctx)
	if err != nil {
		t.pic.planned = planned
	}
	return err
}

// refuse says why nothing of the revision is rolled out. What the revision itself is to blame for is not tried again.
func (t *tracker) refuse(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	t.say(&t.pic.planned, condition.PlanReady, "", "", err)
	t.metrics.refused()
	if final(err) {
		return nil
	}
	return err
}

// evaluate gives the plans of the pools, why others gave none, and, if trying again may mend some of that, an error.
func (t *tracker) evaluate(ctx context.Context, commit string, names []string) (plans []*plan.Pool, broken map[string]condition.Condition, retry error) {
	var mu sync.Mutex // guards plans, broken and retry
	broken = map[string]condition.Condition{}
	var group errgroup.Group
	group.SetLimit(max(t.workers, 1))
	for _, name := range names {
		group.Go(func() error {
			p, err := t.follower.Pool(ctx, commit, name)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				plans = append(plans, p)
				return nil
			}
			var c condition.Condition
			t.say(&c, condition.PlanReady, "", "", err)
			broken[name] = c
			if !final(err) {
				retry = errors.Join(retry, fmt.Errorf("pool %s: %w", name, err))
			}
			t.log.Warn("pool gives no plan", "pool", name, "revision", commit, "err", err)
			return nil
		})
	}
	_ = group.Wait() // the functions give no error
	return plans, broken, retry
}

// standIns gives, for pools that gave no plan, pools with the nodes that others say moved there: nobody knows better, and a
// broken pool must not hold up the others.
func standIns(plans []*plan.Pool, broken map[string]condition.Condition) []*plan.Pool {
	placed := map[string]bool{}
	for _, p := range plans {
		for _, n := range p.Nodes {
			placed[n.Name] = true
		}
	}
	var out []*plan.Pool
	for name := range broken {
		in := &plan.Pool{Name: name}
		for _, p := range plans {
			for node, to := range p.MovedTo {
				if to == name && !placed[node] {
					placed[node] = true
					in.Nodes = append(in.Nodes, plan.Node{Name: node, Pool: name})
				}
			}
		}
		out = append(out, in)
	}
	return out
}

// say puts a condition down: True with the reason and message given, or False with what err says. While the reason stays,
// so does the message: errors of the network carry ports, and each new text would be a write for every pool.
func (t *tracker) say(c *condition.Condition, typ, reason, message string, err error) {
	next := condition.Condition{Type: typ, Status: condition.True, Reason: reason, Message: message}
	if err != nil {
		next.Status = condition.False
		next.Reason, next.Message = revision.Explain(err)
		if typ == condition.SourceReady && c.Status == condition.False && c.Reason == next.Reason {
			return
		}
	}
	*c = next
}

// final tells whether err will stay as long as the revision does.
func final(err error) bool {
	reason, _ := revision.Explain(err)
	switch reason {
	case condition.ReasonInvalidFleet, condition.ReasonDuplicateNode, condition.ReasonTooLarge:
		return true
	}
	return false
}
