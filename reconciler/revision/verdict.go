package revision

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// reported is how many commits a verdict says something of. Neither node nor hub shows them: `holdfast verify` does, and has
// them all.
const reported = 100

// Verify is Path's. Each child judges for a while; the next goes on from what it accepted. So what a verdict takes is bounded
// by the number of commits alone, and not by the limits of a child.
func (f *Follower) Verify(ctx context.Context, state verify.State, at source.Refs, now time.Time, keep func(verify.State) error) (verify.Verdict, error) {
	lim := f.verifyLimits()
	in := verifyInput{Dir: f.cfg.Source.Dir, Stint: f.stint(lim), Request: verify.Request{
		State: state, Tip: at.Tip, Notes: at.Notes, Now: now, Limits: verify.Limits{Reported: reported},
	}}
	var said []verify.Signed
	for {
		out, err := call[verifyOutput](ctx, f, childVerify, lim, in, at)
		if err != nil {
			return out.Verdict, err
		}
		v := out.Verdict
		said = append(said, v.Commits...)
		said = slices.Clone(said[max(0, len(said)-reported):])
		if v.Reason != verify.Unfinished {
			v.Commits = said
			return v, nil
		}
		if keep != nil && v.State.Generation != in.Request.State.Generation {
			if err := keep(v.State); err != nil {
				return v, err
			}
		}
		in.Request.State, in.Request.Progress = v.State, v.Progress
	}
}

// stint gives for how long one child judges. It leaves ample time for what comes before and for a commit that takes long.
func (f *Follower) stint(lim sandbox.Limits) time.Duration {
	if f.cfg.Stint > 0 {
		return f.cfg.Stint
	}
	return lim.CPU / 4
}

type verifyInput struct {
	Dir     string         `json:"dir"`
	Stint   time.Duration  `json:"stint,omitempty"`
	Request verify.Request `json:"request"`
}

type verifyOutput struct {
	result
	Verdict verify.Verdict `json:"verdict"`
}

// serveVerify gives the verdict, or as much of it as there is time for, in the child.
func serveVerify(ctx context.Context, in verifyInput) (out verifyOutput, err error) {
	if in.Stint > 0 {
		end := time.Now().Add(in.Stint)
		in.Request.Enough = func() bool { return time.Now().After(end) }
	}
	repo, err := source.Open(in.Dir)
	if err == nil {
		err = present(repo, in.Request.Tip, in.Request.Notes)
	}
	if err == nil {
		out.Verdict, err = verify.Verify(ctx, Objects(repo), in.Request)
	}
	if err != nil {
		out.fail(err)
	}
	return out, nil
}
