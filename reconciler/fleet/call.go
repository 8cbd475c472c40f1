package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

// childName names the function that evaluates in a child process.
const childName = "fleet-evaluate"

// DefaultLimits bound the evaluation of one pool where nothing else is known. They are the schemas' defaults.
func DefaultLimits() sandbox.Limits {
	return sandbox.Limits{MemoryMB: 256, CPU: 30 * time.Second, Timeout: time.Minute}
}

// Children gives the functions that child processes of this package run, for sandbox.Main.
func Children() map[string]sandbox.Func {
	return map[string]sandbox.Func{childName: sandbox.Serve(serve)}
}

// batch is what one child evaluates: pools that share the root.
type batch struct {
	Fleet  string   `json:"fleet"`
	Shared []File   `json:"shared"`
	Pools  []member `json:"pools"`
}

type member struct {
	Name  string `json:"name"`
	Files []File `json:"files"`
}

// outcome is what came of one pool.
type outcome struct {
	Pool     *plan.Pool `json:"pool,omitempty"`
	Problems Problems   `json:"problems,omitempty"`
	// over says that it used up its limits: another machine, or the same one tomorrow, may do better.
	over bool
}

func serve(_ context.Context, b batch) ([]outcome, error) {
	out := make([]outcome, 0, len(b.Pools))
	for _, m := range b.Pools {
		p, err := Evaluate(Input{Fleet: b.Fleet, Pool: m.Name, Files: append(b.Shared[:len(b.Shared):len(b.Shared)], m.Files...)})
		var ps Problems
		if err != nil && !errors.As(err, &ps) {
			ps = Problems{{File: poolsDir + m.Name, Message: err.Error()}}
		}
		out = append(out, outcome{Pool: p, Problems: ps})
	}
	return out, nil
}

// LimitError says that evaluation used up what it may use.
type LimitError struct {
	// Pool is the pool; "" for the root.
	Pool string
	// Err is one of package sandbox's.
	Err error
}

// Error says which pool and which limit.
func (e *LimitError) Error() string { return "evaluate " + place(e.Pool) + ": " + e.Err.Error() }

// Unwrap gives sandbox's error.
func (e *LimitError) Unwrap() error { return e.Err }

// StableReason gives the reason a condition carries for it.
func (e *LimitError) StableReason() string { return condition.ReasonEvaluationLimit }

func place(pool string) string {
	if pool == "" {
		return "the root"
	}
	return poolsDir + pool
}

// Call runs Evaluate in a child process with those limits. The error is Problems if the fleet repo is wrong, a
// *LimitError if evaluating it takes too much, else what kept the child from running. It is safe for concurrent use.
func Call(ctx context.Context, lim sandbox.Limits, in Input) (*plan.Pool, error) {
	out, err := callBatch(ctx, lim, batch{Fleet: in.Fleet, Pools: []member{{Name: in.Pool, Files: in.Files}}})
	if err != nil {
		return nil, err
	}
	if len(out[0].Problems) > 0 {
		return nil, out[0].Problems
	}
	return out[0].Pool, nil
}

func callBatch(ctx context.Context, lim sandbox.Limits, b batch) ([]outcome, error) {
	out, err := sandbox.Call[[]outcome](ctx, childName, lim, b)
	switch {
	case errors.Is(err, sandbox.ErrMemory), errors.Is(err, sandbox.ErrCPU), errors.Is(err, sandbox.ErrTimeout), errors.Is(err, sandbox.ErrOutput):
		return nil, &LimitError{Pool: b.Pools[0].Name, Err: err}
	case err != nil:
		return nil, fmt.Errorf("evaluate %s: %w", place(b.Pools[0].Name), err)
	case len(out) != len(b.Pools):
		return nil, fmt.Errorf("evaluate %s: %d answers for %d pools", place(b.Pools[0].Name), len(out), len(b.Pools))
	}
	return out, nil
}
