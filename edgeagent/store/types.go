// Package store keeps what a node must not forget: its enrolment, the trust it has come to, the plan in force, the
// revisions it rejected and its latest report. It is one bbolt file, state.db, in which an accepted revision, its trust and
// its plan change together or not at all, and a checked copy of that one record beside it, for the day the file is damaged.
//
// Package bolt below it, which package cache shares, knows what bbolt does not promise.
package store

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// Enrolment is what was fixed when the node was enrolled.
type Enrolment struct {
	Node string `json:"node"`
	// Pool is the pool named at enrolment; "" means: the one that names the node, found at the first revision.
	Pool string `json:"pool,omitempty"`
	// URL and Branch say where the fleet repo is.
	URL    string `json:"url"`
	Branch string `json:"branch"`
	// Standalone: enrolled without a kubeconfig.
	Standalone bool `json:"standalone,omitempty"`
}

// State is what has to change together: the record that one accepted revision writes.
type State struct {
	Enrolment Enrolment `json:"enrolment"`
	// Trust is what verdicts go by; Trust.Accepted is the newest accepted revision.
	Trust verify.State `json:"trust"`
	// InForce is the plan in force; nil before the first.
	InForce *InForce `json:"inForce,omitempty"`
}

// InForce is a plan with where it comes from.
type InForce struct {
	// Revision is the accepted revision it was computed from. It is older than Trust.Accepted if that one gives this node no
	// plan.
	Revision string    `json:"revision"`
	Plan     plan.Node `json:"plan"`
	Digest   string    `json:"digest"`
}

// Rejected is a revision that did not come into force, and why.
type Rejected struct {
	Tip string `json:"tip"`
	// Notes is where refs/notes/holdfast was; a newer one reopens the case.
	Notes   string `json:"notes,omitempty"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Commit is the offending commit; the tip itself or one on the way to it.
	Commit string    `json:"commit,omitempty"`
	At     time.Time `json:"at"`
}

// keptRejections is how many rejected revisions are remembered, newest first.
const keptRejections = 16

// Contents is all a store holds.
type Contents struct {
	State
	Rejected []Rejected       `json:"rejected,omitempty"`
	Report   condition.Report `json:"report"`
}

// What can be wrong. Match with errors.Is.
var (
	// ErrNotEnrolled: there is no state in the folder.
	ErrNotEnrolled = errors.New("not enrolled")
	// ErrInUse: another process has the state open: an agent runs.
	ErrInUse = bolt.ErrInUse
	// ErrDamaged: neither state.db nor its copy can be believed.
	ErrDamaged = bolt.ErrDamaged
)

// Error is a failure to write, with its stable reason of package condition: DiskFull, StateDamaged or WriteFailed.
type Error struct {
	Reason string
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// StableReason gives the reason.
func (e *Error) StableReason() string { return e.Reason }

func writeError(what string, err error) error {
	if err == nil {
		return nil
	}
	reason := condition.ReasonWriteFailed
	switch {
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		reason = condition.ReasonDiskFull
	case errors.Is(err, ErrDamaged):
		reason = condition.ReasonStateDamaged
	}
	return &Error{Reason: reason, Err: fmt.Errorf("write %s: %w", what, err)}
}
