package edgeagent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/store"
	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// firstReport is what the agent says before anything has happened: what it said last.
func (a *Agent) firstReport(kept store.Contents) condition.Report {
	r := condition.Report{Node: kept.Enrolment.Node, Pool: kept.Enrolment.Pool, Revision: kept.Trust.Accepted, AgentVersion: a.opt.Version}
	if kept.InForce != nil {
		r.Pool, r.PlanDigest = kept.InForce.Plan.Pool, kept.InForce.Digest
	}
	for _, c := range kept.Report.Conditions {
		if slices.Contains([]string{condition.SourceReady, condition.Verified, condition.PlanReady, condition.Stale}, c.Type) {
			r.Conditions = append(r.Conditions, c)
		}
	}
	return r
}

// startConditions are those that are known, or known to be unknown, at the start.
func (a *Agent) startConditions() []condition.Condition {
	conds := append(a.loop.Conditions(), a.stateReady(nil))
	if a.node == nil {
		why := "the node was enrolled without a kubeconfig: there is no Node to keep"
		if a.api != nil {
			why = "part nodepool is switched off"
		}
		conds = append(conds, condition.Condition{Type: condition.NodePoolReady, Status: condition.True, Reason: condition.ReasonStandalone, Message: why})
	}
	report, _ := a.board.latest()
	for _, typ := range []string{condition.SourceReady, condition.Verified, condition.PlanReady} {
		if _, ok := condition.Get(report.Conditions, typ); !ok {
			conds = append(conds, condition.Condition{Type: typ, Status: condition.Unknown, Reason: condition.ReasonPending})
		}
	}
	return append(conds, a.stale())
}

// stateReady says how remembering goes.
func (a *Agent) stateReady(err error) condition.Condition {
	c := condition.Condition{Type: condition.StateReady, Status: condition.True, Reason: condition.ReasonStored}
	if restored := a.store.Restored(); restored != nil {
		c.Reason, c.Message = condition.ReasonStateRestored, fmt.Sprintf("state.db was made anew from its copy and nothing was lost, but look at this disk: %v", restored)
	}
	if err != nil {
		c.Status, c.Reason, c.Message = condition.False, reconciler.Reason(err), err.Error()
	}
	return c
}

// stored puts up how a write to the state went, and gives its error back.
func (a *Agent) stored(err error) error {
	a.board.set(a.stateReady(err))
	return err
}

// reportChanged hands a new report on. It is called with the board's lock held.
func (a *Agent) reportChanged(r condition.Report) {
	if a.uplink != nil {
		a.uplink.Report(r)
	}
	select {
	case a.unsaved <- struct{}{}:
	default:
	}
}

const (
	keepGather = 2 * time.Second  // a change seldom comes alone
	keepPause  = 30 * time.Second // the least time between two writes
)

// keep stores the latest report, so that `status` and the next start know it.
func (a *Agent) keep(ctx context.Context) {
	defer a.keepNow()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.unsaved:
		}
		if !wait(ctx, keepGather) {
			return
		}
		a.keepNow()
		if !wait(ctx, keepPause) {
			return
		}
	}
}

func (a *Agent) keepNow() {
	r, _ := a.board.latest()
	if err := a.stored(a.store.SaveReport(r)); err != nil {
		a.log.Error("keep report", "err", err)
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
