package reconciler

import (
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// Stalled is an error that trying again cannot mend: the Loop rests until the plan changes.
type Stalled struct {
	// Reason is a stable reason of package condition.
	Reason string
	Err    error
}

func (e *Stalled) Error() string { return e.Err.Error() }
func (e *Stalled) Unwrap() error { return e.Err }

// Waiting is an error that time mends: the Loop tries again after After, without counting it as a failure.
type Waiting struct {
	// Reason is a stable reason of package condition.
	Reason string
	After  time.Duration
	Err    error
}

func (e *Waiting) Error() string { return fmt.Sprintf("%v (next try in %s)", e.Err, e.After) }
func (e *Waiting) Unwrap() error { return e.Err }

// Failed is any other error with a stable reason of its own: the Loop backs off.
type Failed struct {
	Reason string
	Err    error
}

func (e *Failed) Error() string { return e.Err.Error() }
func (e *Failed) Unwrap() error { return e.Err }

// StableReason gives the reason: see package condition.
func (e *Stalled) StableReason() string { return e.Reason }

// StableReason gives the reason: see package condition.
func (e *Waiting) StableReason() string { return e.Reason }

// StableReason gives the reason: see package condition.
func (e *Failed) StableReason() string { return e.Reason }

// Reason gives the stable reason an error carries, by a method StableReason, or ReasonBackingOff.
func Reason(err error) string {
	var r interface{ StableReason() string }
	if errors.As(err, &r) && r.StableReason() != "" {
		return r.StableReason()
	}
	return condition.ReasonBackingOff
}
