package nodepool

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler"
)

// Watch calls nudge whenever the Node is not as last asked for, until ctx ends. It is one request that stays open: an
// idle node costs the API server nothing else.
func (r *Reconciler) Watch(ctx context.Context, nudge func()) {
	q := &quarrel{nudge: nudge}
	defer q.stop()
	failures := 0
	for ctx.Err() == nil {
		err := r.api.Watch(ctx, nodesPath, r.node, func(raw json.RawMessage) {
			failures = 0
			switch r.look(raw) {
			case undone:
				nudge()
			case drifted:
				if d := q.drift(time.Now()); d > 0 {
					r.log.Warn("the Node is changed back again and again: somebody else sets what the plan sets", "node", r.node, "corrected in", d)
				}
			}
		})
		if err == nil { // the server ends watches now and then
			failures = 0
		}
		failures++
		if err != nil && !errors.Is(err, context.Canceled) {
			r.log.Debug("watch node", "node", r.node, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(reconciler.Backoff(failures, time.Second, time.Minute)):
		}
	}
}

// What a look at the Node can come to.
type look int

const (
	asPlanned look = iota
	undone         // the Node is gone, or was never brought to the plan
	drifted        // somebody changed it since
)

// look compares a Node's metadata, nil if it is gone, with what was last asked for.
func (r *Reconciler) look(raw json.RawMessage) look {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.want == nil:
		return asPlanned // the first Reconcile will look by itself
	case raw == nil || r.failed:
		return undone
	}
	observed, err := Observe(raw)
	if err != nil || len(Diff(observed, *r.want)) > 0 {
		return drifted
	}
	return asPlanned
}

const (
	quarrelCalm  = 10 * time.Minute // after so long without drift all is forgiven
	quarrelFree  = 5                // drifts that are corrected at once
	quarrelPause = 5 * time.Minute  // the longest patience
)

// quarrel keeps the node from quarrelling for ever with another writer of its labels, at the API server's cost: drift that
// returns and returns is corrected less and less often. Only Watch's goroutine uses it.
type quarrel struct {
	nudge   func()
	drifts  int
	last    time.Time
	timer   *time.Timer
	pending atomic.Bool // the timer is running
}

// drift nudges, now or after the patience that it gives. Drift that is already waited for is no further one.
func (q *quarrel) drift(now time.Time) (patience time.Duration) {
	if q.pending.Load() {
		return 0
	}
	if now.Sub(q.last) > quarrelCalm {
		q.drifts = 0
	}
	q.last = now
	q.drifts++
	over := q.drifts - quarrelFree
	if over <= 0 {
		q.nudge()
		return 0
	}
	patience = min(time.Second<<min(over, 20), quarrelPause)
	q.pending.Store(true)
	q.timer = time.AfterFunc(patience, func() {
		q.pending.Store(false)
		q.nudge()
	})
	return patience
}

func (q *quarrel) stop() {
	if q.timer != nil {
		q.timer.Stop()
	}
}
