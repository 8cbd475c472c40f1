package source

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/source/pack"
)

// Error is a failure with a stable reason of package condition: Unreachable, AuthenticationFailed, ProtocolError,
// BranchMissing, TooLarge, DiskFull.
type Error struct {
	Reason string
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// StableReason gives the reason.
func (e *Error) StableReason() string { return e.Reason }

// ErrDamaged says that the clone is not as it was written: a pack or an object is missing, cut short or altered. Fetching
// mends it.
var ErrDamaged = pack.ErrDamaged

// ErrNotFound says that a repository has no object of that id.
var ErrNotFound = pack.ErrNotFound

// fail makes an *Error.
func fail(reason, format string, args ...any) error {
	return &Error{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// storing gives an error of writing to disk its reason, if it has one.
func storing(what string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", what, err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return &Error{Reason: condition.ReasonDiskFull, Err: err}
	}
	return err
}

// missing says whether err is a file that is not there.
func missing(err error) bool { return errors.Is(err, os.ErrNotExist) }
