package reconciler

import (
	"errors"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// job is one call of Reconcile.
type job struct {
	want       plan.Node
	generation uint64
}

// next says whether to reconcile now. If not, a wait over zero says when a pending nudge may be looked at.
func (p *part) next(s *schedule) (j job, ok bool, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.generation == 0 {
		return job{}, false, 0
	}
	j = job{want: p.want, generation: p.generation}
	fresh := p.generation != s.generation
	switch {
	case fresh:
		s.failures = 0
	case s.stalled:
		p.nudged = false
		return job{}, false, 0
	case s.due:
	case p.nudged:
		if rest := p.cfg.MinBackoff - time.Since(s.ended); rest > 0 {
			return job{}, false, rest
		}
	default:
		return job{}, false, 0
	}
	p.nudged, s.due, s.stalled, s.generation = false, false, false, p.generation
	return j, true, 0
}

// schedule is when a part reconciles next. Only the part's goroutine touches it.
type schedule struct {
	generation uint64 // of the last Reconcile
	failures   int
	stalled    bool
	due        bool // the retry timer rang
	ended      time.Time
}

// after notes the outcome and gives the time to the next try, or a negative one if only a trigger may cause it.
func (s *schedule) after(err error, cfg *LoopConfig) time.Duration {
	s.ended = time.Now()
	var stalled *Stalled
	var waiting *Waiting
	switch {
	case err == nil:
		s.failures = 0
		return -1
	case errors.As(err, &stalled):
		s.stalled = true
		return -1
	case errors.As(err, &waiting):
		s.failures = 0
		return max(waiting.After, 0)
	default:
		s.failures++
		return Backoff(s.failures, cfg.MinBackoff, cfg.MaxBackoff)
	}
}
