package edgeagent

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// board is the one place where the node's conditions are written. It is safe for concurrent use.
type board struct {
	now     func() time.Time
	changed func(condition.Report) // told of every new report, in order; must not block

	mu       sync.Mutex // guards what follows
	report   condition.Report
	reported condition.Condition // how reporting goes: for this node's eyes only
	moved    chan struct{}       // closed and made anew at every change
}

func newBoard(start condition.Report, now func() time.Time, changed func(condition.Report)) *board {
	return &board{now: now, changed: changed, report: start, moved: make(chan struct{})}
}

// set puts conditions up.
func (b *board) set(conds ...condition.Condition) {
	b.update(func(r *condition.Report) {
		for _, c := range conds {
			r.Conditions = condition.Set(r.Conditions, b.settle(r.Conditions, c), b.now())
		}
	})
}

// settle keeps the message of a trouble that merely goes on: its text names ports and delays that differ from one try to
// the next, and each would be a new report and a write.
func (b *board) settle(list []condition.Condition, c condition.Condition) condition.Condition {
	lasting := []string{condition.ReasonUnreachable, condition.ReasonAPIUnreachable, condition.ReasonBackingOff, condition.ReasonHung}
	if old, ok := condition.Get(list, c.Type); ok && old.Status == c.Status && old.Reason == c.Reason && slices.Contains(lasting, c.Reason) {
		c.Message = old.Message
	}
	return c
}

// update changes the report, sums it up in Ready, and tells of it if it has become another.
func (b *board) update(change func(*condition.Report)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.report
	change(&b.report)
	b.report.Conditions = condition.Set(b.report.Conditions, ready(b.report.Conditions), b.now())
	if same(before, b.report) {
		return
	}
	close(b.moved)
	b.moved = make(chan struct{})
	if b.changed != nil {
		b.changed(b.report)
	}
}

func same(a, b condition.Report) bool {
	return a.Node == b.Node && a.Pool == b.Pool && a.Revision == b.Revision && a.PlanDigest == b.PlanDigest &&
		a.AgentVersion == b.AgentVersion && slices.Equal(a.Conditions, b.Conditions)
}

// setReported notes how reporting goes.
func (b *board) setReported(c condition.Condition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reported, _ = condition.Get(condition.Set([]condition.Condition{b.reported}, c, b.now()), c.Type)
	close(b.moved)
	b.moved = make(chan struct{})
}

// latest gives the report and, beside it, how reporting goes.
func (b *board) latest() (condition.Report, condition.Condition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.report, b.reported
}

// change gives a channel that is closed at the next change.
func (b *board) change() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.moved
}

// ready sums up: everything is as the newest revision says. An unreachable Git server and an old revision inform; they
// do not make a node that is as planned less ready.
func ready(conds []condition.Condition) condition.Condition {
	sum := condition.Condition{Type: condition.Ready, Status: condition.True, Reason: condition.ReasonReconciled}
	for _, c := range conds {
		switch {
		case c.Type == condition.Ready, c.Type == condition.SourceReady, c.Type == condition.Stale, c.Status == condition.True:
		case c.Status == condition.False && sum.Status != condition.False, sum.Status == condition.True:
			sum = condition.Condition{Type: condition.Ready, Status: c.Status, Reason: c.Reason, Message: strings.TrimSuffix(c.Type+": "+c.Message, ": ")}
		}
	}
	return sum
}

// poke wakes whoever waits for a change although the report is the same: a reconcile has finished.
func (b *board) poke() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.moved)
	b.moved = make(chan struct{})
}
