package source

import (
	"context"
	"errors"
	"time"
)

// failure is an *Error on its way out of a child.
type failure struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func (f *failure) err() error {
	if f == nil {
		return nil
	}
	return &Error{Reason: f.Reason, Err: errors.New(f.Message)}
}

// asFailure takes the errors that have a reason; the child returns the others as they are.
func asFailure(err error) (*failure, error) {
	if e := (*Error)(nil); errors.As(err, &e) {
		return &failure{e.Reason, err.Error()}, nil
	}
	return nil, err
}

type refsOutput struct {
	Refs    Refs     `json:"refs"`
	Failure *failure `json:"failure,omitempty"`
}

// serveRefs is a poll over SSH, in the child.
func serveRefs(ctx context.Context, cfg Config) (out refsOutput, err error) {
	ctx, cancel := context.WithTimeout(ctx, before(cfg.Limits.PollTimeout))
	defer cancel()
	out.Refs, err = poll(ctx, cfg)
	out.Failure, err = asFailure(err)
	return out, err
}

func poll(ctx context.Context, cfg Config) (Refs, error) {
	r, err := parseRemote(cfg.URL)
	if err != nil {
		return Refs{}, err
	}
	s, err := newServer(cfg, r)
	if err != nil {
		return Refs{}, err
	}
	return s.refs(ctx)
}

type fetchInput struct {
	Config Config `json:"config"`
	Want   Refs   `json:"want"`
}

type fetchOutput struct {
	Fetched Fetched  `json:"fetched"`
	Failure *failure `json:"failure,omitempty"`
}

// serveFetch is a fetch, in the child.
func serveFetch(ctx context.Context, in fetchInput) (out fetchOutput, err error) {
	ctx, cancel := context.WithTimeout(ctx, before(in.Config.Limits.FetchTimeout))
	defer cancel()
	out.Fetched, err = fetch(ctx, in.Config, in.Want)
	out.Failure, err = asFailure(err)
	return out, err
}

// before is a little earlier than the deadline that ends the child, so that the child can say what it was waiting for.
func before(d time.Duration) time.Duration { return d - d/20 }
