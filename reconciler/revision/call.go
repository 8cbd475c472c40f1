package revision

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// call runs one child that reads the clone. If the clone turns out to be damaged it is fetched again, once for the same
// refs, and the child is run again.
func call[Out any, O interface {
	*Out
	outcome() *failure
}](ctx context.Context, f *Follower, name string, lim sandbox.Limits, in any, at source.Refs) (Out, error) {
	for {
		out, err := sandbox.Call[Out](ctx, name, lim, in)
		if err != nil {
			return out, childError(name, err)
		}
		failed := O(&out).outcome()
		if failed == nil {
			return out, nil
		}
		if !failed.Damaged {
			return out, failed.err()
		}
		if err := f.mend(ctx, at, failed); err != nil {
			return out, err
		}
	}
}

// mend fetches a damaged clone again, unless that was just done for the same refs: then it is not the clone that is at
// fault.
func (f *Follower) mend(ctx context.Context, at source.Refs, why *failure) error {
	f.fetching.Lock()
	defer f.fetching.Unlock()
	f.mu.Lock()
	repeated := f.mended == at && f.cfg.Clock().Sub(f.mendedAt) < again
	f.mu.Unlock()
	if repeated || at.Tip == "" {
		return why.err()
	}
	f.cfg.Log.Warn("the clone is damaged: fetching it again", "dir", f.cfg.Source.Dir, "reason", condition.ReasonRepaired, "cause", why.Message)
	if err := f.client.SetAside(); err != nil {
		return fmt.Errorf("set the damaged clone aside: %w", err)
	}
	if err := f.fetch(ctx, at); err != nil {
		return fmt.Errorf("the clone is damaged and cannot be fetched again: %w", err)
	}
	f.mu.Lock()
	f.mended, f.mendedAt = at, f.cfg.Clock()
	f.mu.Unlock()
	return nil
}

// exhausted says that a child used up its limits, so that it could not say itself what it was about.
type exhausted struct{ err error }

func (e *exhausted) Error() string { return "the revision costs too much: " + e.err.Error() }
func (e *exhausted) Unwrap() error { return e.err }

// StableReason gives the reason.
func (e *exhausted) StableReason() string { return condition.ReasonTooLarge }

// childError says what it means that a child did not come to an end by itself.
func childError(name string, err error) error {
	for _, limit := range []error{sandbox.ErrMemory, sandbox.ErrCPU, sandbox.ErrTimeout, sandbox.ErrOutput} {
		if errors.Is(err, limit) {
			return &exhausted{err}
		}
	}
	return fmt.Errorf("run %s: %w", name, err)
}
