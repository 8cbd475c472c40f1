package reconciler

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// LoopConfig is what a Loop needs. Zero values mean the defaults named.
type LoopConfig struct {
	Log *slog.Logger
	// Now is the wall clock that stamps conditions; nil means time.Now. Waiting never depends on it.
	Now func() time.Time
	// Deadline bounds one Reconcile; 0 means 2 minutes. A part that is not back some seconds after it is called hung.
	Deadline time.Duration
	// MinBackoff and MaxBackoff bound the delays after failures; 0 means 1 second and 5 minutes. MinBackoff is also
	// the least time between two reconciles that nudges cause.
	MinBackoff, MaxBackoff time.Duration
	// Changed is told a part's conditions after they changed, one part's changes in order. It must not block.
	Changed func(part string, conds []condition.Condition)
	// Done is told of every finished Reconcile, for metrics. It must not block.
	Done func(part string, took time.Duration, err error)
}

// Loop runs reconcilers: one goroutine for each, so that one part's failure, panic or hang is never another's. All
// methods are safe for concurrent use.
type Loop struct {
	cfg   LoopConfig
	parts []*part
}

// NewLoop gives a Loop for these reconcilers. Nothing is reconciled before Run, nor before the first SetPlan.
func NewLoop(cfg LoopConfig, parts ...Reconciler) *Loop {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Deadline == 0 {
		cfg.Deadline = 2 * time.Minute
	}
	if cfg.MinBackoff == 0 {
		cfg.MinBackoff = time.Second
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = 5 * time.Minute
	}
	l := &Loop{cfg: cfg}
	for _, r := range parts {
		l.parts = append(l.parts, newPart(&l.cfg, r))
	}
	return l
}

// SetPlan makes want what every part reconciles to, at once. Of several plans set while a part is busy only the latest
// counts. It ends back-off and stalling.
func (l *Loop) SetPlan(want plan.Node) {
	for _, p := range l.parts {
		p.setPlan(want)
	}
}

// Nudge asks a part to look again because something it observes has changed. A stalled part stays so until the plan
// changes. An unknown part is ignored.
func (l *Loop) Nudge(name string) {
	for _, p := range l.parts {
		if p.r.Part() == name {
			p.nudge()
		}
	}
}

// Conditions gives the latest conditions of all parts, sorted by type.
func (l *Loop) Conditions() []condition.Condition {
	var out []condition.Condition
	for _, p := range l.parts {
		out = append(out, p.latest()...)
	}
	slices.SortFunc(out, func(a, b condition.Condition) int { return strings.Compare(a.Type, b.Type) })
	return out
}

// Settled says whether every part has finished reconciling the latest plan, whatever came of it.
func (l *Loop) Settled() bool {
	for _, p := range l.parts {
		if !p.settled() {
			return false
		}
	}
	return true
}

// Run runs the parts until ctx ends and they are back. A part that hangs past its deadline is left behind, and named in
// the error.
func (l *Loop) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, p := range l.parts {
		wg.Go(func() { p.run(ctx) })
	}
	wg.Wait()
	var hung []string
	for _, p := range l.parts {
		if p.isHung() {
			hung = append(hung, p.r.Part())
		}
	}
	if len(hung) > 0 {
		return fmt.Errorf("stop parts: %s did not return", strings.Join(hung, ", "))
	}
	return nil
}

// Jitter gives a random duration in [0, limit): full jitter, so that nodes which failed together do not return together.
func Jitter(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return rand.N(limit)
}

// Backoff gives the delay before the next try after that many failures (1 or more) in a row: full jitter under a bound
// that doubles from least to most.
func Backoff(failures int, least, most time.Duration) time.Duration {
	limit := least
	for i := 1; i < failures && limit < most; i++ {
		limit *= 2
	}
	return Jitter(min(limit, most))
}
