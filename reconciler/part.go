package reconciler

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// grace is how long past its deadline a Reconcile may take to come back before it is called hung.
const grace = 5 * time.Second

// part is one reconciler with what its goroutine needs to know.
type part struct {
	cfg  *LoopConfig
	r    Reconciler
	wake chan struct{}

	mu         sync.Mutex // guards what follows
	want       plan.Node
	generation uint64 // counts plans; 0 means there is none yet
	reconciled uint64 // the generation that the last finished Reconcile saw
	nudged     bool
	hung       bool
	conditions []condition.Condition
}

func newPart(cfg *LoopConfig, r Reconciler) *part {
	p := &part{cfg: cfg, r: r, wake: make(chan struct{}, 1)}
	p.conditions = condition.Set(nil, condition.Condition{
		Type: r.Condition(), Status: condition.Unknown, Reason: condition.ReasonPending, Message: "there is no plan yet",
	}, cfg.Now())
	return p
}

func (p *part) setPlan(want plan.Node) {
	p.mu.Lock()
	p.want = want
	p.generation++
	p.mu.Unlock()
	p.signal()
}

func (p *part) nudge() {
	p.mu.Lock()
	p.nudged = true
	p.mu.Unlock()
	p.signal()
}

func (p *part) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *part) latest() []condition.Condition {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conditions
}

func (p *part) settled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.generation > 0 && p.reconciled == p.generation
}

func (p *part) isHung() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hung
}

// run waits for a reason to reconcile, reconciles, and decides when to come back, until ctx ends.
func (p *part) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	var s schedule
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
			s.due = true
		}
		for {
			job, ok, wait := p.next(&s)
			if !ok {
				if wait > 0 {
					timer.Reset(wait)
				}
				break
			}
			err := p.reconcile(ctx, job)
			if ctx.Err() != nil {
				return
			}
			timer.Stop()
			if d := s.after(err, p.cfg); d >= 0 {
				timer.Reset(d)
			}
		}
	}
}

// outcome is what a Reconcile gave.
type outcome struct {
	conds []condition.Condition
	err   error
}

// reconcile calls Reconcile under the deadline in a goroutine of its own, so that one which ignores its context can be
// reported while it hangs. It is called again only when that one is back.
func (p *part) reconcile(ctx context.Context, j job) error {
	callCtx, cancel := context.WithTimeout(ctx, p.cfg.Deadline)
	defer cancel()
	began := time.Now()
	done := make(chan outcome, 1)
	go func() { done <- p.call(callCtx, j.want) }()
	hang := time.NewTimer(p.cfg.Deadline + grace)
	defer hang.Stop()
	stop := ctx.Done()
	for {
		select {
		case o := <-done:
			p.finish(j, o, time.Since(began))
			return o.err
		case <-stop: // give it the grace, then leave it behind
			stop = nil
			hang.Reset(grace)
		case <-hang.C:
			p.setHung(time.Since(began))
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
}

// call turns a panic into an error.
func (p *part) call(ctx context.Context, want plan.Node) (o outcome) {
	defer func() {
		if r := recover(); r != nil {
			p.cfg.Log.Error("part panicked", "part", p.r.Part(), "panic", r, "stack", string(debug.Stack()))
			o = outcome{err: &Failed{Reason: condition.ReasonPanicked, Err: fmt.Errorf("part %s panicked: %v; this is a bug: the agent's log has the stack", p.r.Part(), r)}}
		}
	}()
	conds, err := p.r.Reconcile(ctx, want)
	return outcome{conds: conds, err: err}
}

func (p *part) setHung(since time.Duration) {
	p.cfg.Log.Error("part hangs", "part", p.r.Part(), "for", since)
	p.mu.Lock()
	p.hung = true
	p.mu.Unlock()
	p.publish([]condition.Condition{{Type: p.r.Condition(), Status: condition.False, Reason: condition.ReasonHung,
		Message: fmt.Sprintf("part %s has not come back since its deadline of %s; other parts go on", p.r.Part(), p.cfg.Deadline)}})
}

// finish publishes what came of a job.
func (p *part) finish(j job, o outcome, took time.Duration) {
	p.mu.Lock()
	p.hung = false
	p.reconciled = j.generation
	p.mu.Unlock()
	conds := o.conds
	if _, ok := condition.Get(conds, p.r.Condition()); !ok {
		conds = append(conds, summary(p.r.Condition(), o.err))
	}
	p.publish(conds)
	if p.cfg.Done != nil {
		p.cfg.Done(p.r.Part(), took, o.err)
	}
	if o.err != nil {
		p.cfg.Log.Warn("reconcile", "part", p.r.Part(), "reason", Reason(o.err), "err", o.err)
	}
}

// summary gives the condition that an outcome comes to.
func summary(typ string, err error) condition.Condition {
	if err == nil {
		return condition.Condition{Type: typ, Status: condition.True, Reason: condition.ReasonReconciled}
	}
	return condition.Condition{Type: typ, Status: condition.False, Reason: Reason(err), Message: err.Error()}
}

// publish replaces the part's conditions and tells of a change.
func (p *part) publish(conds []condition.Condition) {
	p.mu.Lock()
	old := p.conditions
	next := make([]condition.Condition, 0, len(conds))
	for _, c := range conds {
		c, _ = condition.Get(condition.Set(old, c, p.cfg.Now()), c.Type)
		next = append(next, c)
	}
	slices.SortFunc(next, func(a, b condition.Condition) int { return strings.Compare(a.Type, b.Type) })
	p.conditions = next
	p.mu.Unlock()
	if p.cfg.Changed != nil && !slices.Equal(old, next) {
		p.cfg.Changed(p.r.Part(), next)
	}
}
