// Package uplink brings the node's report into EdgeNode.status. Only the latest report matters: changes are gathered,
// sent at a bounded rate, kept while the API server cannot be reached and sent at a random moment after it can be, so
// that neither a busy node nor a thousand returning ones are a burden.
package uplink

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// Manager is the field manager of what a node reports.
const Manager = "holdfast-agent"

const (
	path       = "/apis/fleet.holdfast.dev/v1alpha1/edgenodes/"
	apiVersion = "fleet.holdfast.dev/v1alpha1"

	gather      = 500 * time.Millisecond // a change seldom comes alone
	missingWait = time.Minute            // for an EdgeNode, or its CRD, to appear
)

// API is what uplink needs of the kube-apiserver. Errors carry a stable reason (reconciler.Reason), such as NotFound.
type API interface {
	// Get reads an object's metadata into into.
	Get(ctx context.Context, path string, into any) error
	// Apply applies the object server-side as that manager, by force. With check nothing is stored.
	Apply(ctx context.Context, path, manager string, check bool, object any) error
}

// Config is what an Uplink needs.
type Config struct {
	API  API
	Node string
	Log  *slog.Logger
	// Now is the wall clock that stamps reports; nil means time.Now.
	Now func() time.Time
	// Interval is the least time between two reports; 0 means 5 seconds.
	Interval time.Duration
	// MaxBackoff bounds the delay after failures; 0 means one minute.
	MaxBackoff time.Duration
	// Changed is told how reporting goes, as condition Reported, whenever that changes. It must not block.
	Changed func(condition.Condition)
}

// Uplink sends one node's reports.
type Uplink struct {
	cfg  Config
	wake chan struct{}

	mu     sync.Mutex // guards latest
	latest *condition.Report
}

// New gives an Uplink that sends nothing before Run.
func New(cfg Config) *Uplink {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Interval == 0 {
		cfg.Interval = 5 * time.Second
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = time.Minute
	}
	return &Uplink{cfg: cfg, wake: make(chan struct{}, 1)}
}

// Report makes r the latest report. It never blocks and is safe for concurrent use.
func (u *Uplink) Report(r condition.Report) {
	u.mu.Lock()
	u.latest = &r
	u.mu.Unlock()
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// Run sends reports until ctx ends.
func (u *Uplink) Run(ctx context.Context) {
	var sent []byte // the last status that arrived, without its time
	var told condition.Condition
	failures := 0
	for u.wait(ctx) {
		status, err := u.status()
		if err == nil && bytes.Equal(status, sent) {
			continue
		}
		if err == nil {
			err = u.send(ctx, status)
		}
		if ctx.Err() != nil {
			return
		}
		if c := reported(err); c != told {
			told = c
			if u.cfg.Changed != nil {
				u.cfg.Changed(c)
			}
		}
		var pause time.Duration
		var waiting *reconciler.Waiting
		switch {
		case err == nil:
			sent, failures = status, 0
			pause = u.cfg.Interval + reconciler.Jitter(u.cfg.Interval/2)
		case errors.As(err, &waiting):
			failures = 0
			pause = waiting.After + reconciler.Jitter(waiting.After)
		default:
			failures++
			u.cfg.Log.Debug("report", "node", u.cfg.Node, "err", err)
			pause = reconciler.Backoff(failures, 2*time.Second, u.cfg.MaxBackoff)
		}
		if !sleep(ctx, pause) {
			return
		}
		if err != nil {
			u.poke()
		}
	}
}

// wait waits for a new report and for those that come with it.
func (u *Uplink) wait(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-u.wake:
	}
	return sleep(ctx, gather)
}

func (u *Uplink) poke() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// status gives the latest report as EdgeNode.status, without the time of the report.
func (u *Uplink) status() ([]byte, error) {
	u.mu.Lock()
	r := *u.latest
	u.mu.Unlock()
	return json.Marshal(statusOf(r))
}

// send puts a status into the node's EdgeNode.
func (u *Uplink) send(ctx context.Context, raw []byte) error {
	var seen struct {
		Metadata struct {
			Generation int64 `json:"generation"`
		} `json:"metadata"`
	}
	if err := u.cfg.API.Get(ctx, path+u.cfg.Node, &seen); err != nil {
		return steer(u.cfg.Node, err)
	}
	var status map[string]any
	if err := json.Unmarshal(raw, &status); err != nil {
		return err
	}
	status["observedGeneration"] = seen.Metadata.Generation
	status["lastReportTime"] = u.cfg.Now().UTC().Truncate(time.Second)
	err := u.cfg.API.Apply(ctx, path+u.cfg.Node+"/status", Manager, false, map[string]any{
		"apiVersion": apiVersion, "kind": "EdgeNode", "metadata": map[string]any{"name": u.cfg.Node}, "status": status,
	})
	return steer(u.cfg.Node, err)
}

func steer(node string, err error) error {
	if err != nil && reconciler.Reason(err) == condition.ReasonNotFound {
		return &reconciler.Waiting{Reason: condition.ReasonEdgeNodeMissing, After: missingWait,
			Err: fmt.Errorf("there is no EdgeNode %s: the hub makes it when the fleet repo names this node; the CRDs come with holdfast install", node)}
	}
	return err
}

// reported says as a condition what came of sending.
func reported(err error) condition.Condition {
	if err == nil {
		return condition.Condition{Type: condition.Reported, Status: condition.True, Reason: condition.ReasonSent}
	}
	var waiting *reconciler.Waiting
	if errors.As(err, &waiting) { // without the time to the next try, which would be news each time
		return condition.Condition{Type: condition.Reported, Status: condition.False, Reason: waiting.Reason, Message: waiting.Err.Error()}
	}
	return condition.Condition{Type: condition.Reported, Status: condition.False, Reason: reconciler.Reason(err), Message: err.Error()}
}
