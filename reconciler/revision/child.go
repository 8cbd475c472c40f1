package revision

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// failure is an error with its reason on its way out of a child.
type failure struct {
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message"`
	// Commit is the offending commit of a *verify.Rejection.
	Commit string `json:"commit,omitempty"`
	// Damaged: fetching the clone again may help.
	Damaged bool `json:"damaged,omitempty"`
}

func (f *failure) err() error {
	switch {
	case f.Commit != "":
		return &verify.Rejection{Reason: f.Reason, Message: f.Message, Commit: f.Commit}
	case f.Reason != "":
		return &reconciler.Failed{Reason: f.Reason, Err: errors.New(f.Message)}
	}
	return errors.New(f.Message)
}

// result is what a child gives beside its output.
type result struct {
	Failure *failure `json:"failure,omitempty"`
}

func (r *result) outcome() *failure { return r.Failure }

// fail describes err for the parent.
func (r *result) fail(err error) {
	r.Failure = &failure{Message: err.Error()}
	var rejection *verify.Rejection
	var reasoned interface{ StableReason() string }
	switch {
	case errors.As(err, &rejection):
		r.Failure.Reason, r.Failure.Commit = rejection.Reason, rejection.Commit
	case errors.As(err, &reasoned):
		r.Failure.Reason = reasoned.StableReason()
	case errors.Is(err, source.ErrDamaged), errors.Is(err, source.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		r.Failure.Damaged = true
	}
}

// objects is a clone as verify reads it.
type objects struct{ *source.Repo }

// Objects gives a repository to package verify.
func Objects(r *source.Repo) verify.Objects { return objects{r} }

func (o objects) Object(id string) (string, []byte, error) {
	kind, raw, err := o.Repo.Object(id)
	return kind, raw, notFound(err)
}

// Size is verify.Sizer's.
func (o objects) Size(id string) (string, int64, error) {
	kind, size, err := o.Repo.Size(id)
	return kind, size, notFound(err)
}

// notFound makes an object that is not there known to verify.
func notFound(err error) error {
	if errors.Is(err, source.ErrNotFound) {
		return fmt.Errorf("%w: %w", verify.ErrNotFound, err)
	}
	return err
}

type enrolInput struct {
	Dir    string `json:"dir"`
	Anchor string `json:"anchor"`
}

type enrolOutput struct {
	result
	State verify.State `json:"state"`
}

// serveEnrol reads the anchor, in the child.
func serveEnrol(_ context.Context, in enrolInput) (out enrolOutput, err error) {
	repo, err := source.Open(in.Dir)
	if err == nil {
		out.State, err = verify.Enrol(Objects(repo), in.Anchor)
	}
	if err != nil {
		out.fail(err)
	}
	return out, nil
}

// present makes sure that the refs' own objects can be read: a verdict passes over notes that it does not find, and here
// that would be the clone's fault.
func present(repo *source.Repo, ids ...string) error {
	for _, id := range ids {
		if id == "" {
			continue
		}
		if _, _, err := repo.Object(id); err != nil {
			return err
		}
	}
	return nil
}
