package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

// walk is one verdict in the making.
type walk struct {
	req    Request
	reader *reader
	notes  *notes
	// state is what has been accepted so far, trust the one in force at state.Accepted.
	state State
	trust *trust.Trust
	// parent is the commit at state.Accepted.
	parent *commit
	// way is what lies ahead, judged how many commits this call has accepted.
	way     Progress
	judged  int
	verdict Verdict
}

func newWalk(o Objects, req Request) (*walk, error) {
	if req.State.Accepted == "" {
		return nil, errNoState
	}
	w := &walk{req: req, reader: newReader(o, req.Limits), state: req.State, way: start(req)}
	w.req.Limits = w.reader.limits
	w.state.Countersignatures = slices.Clone(req.State.Countersignatures)
	w.state.Reanchored = slices.Clone(req.State.Reanchored)
	w.state.Trust = maps.Clone(req.State.Trust)
	var err error
	if w.trust, err = trust.Parse(req.State.Trust); err != nil {
		return nil, fmt.Errorf("the stored trust: %w", err)
	}
	w.notes, err = openNotes(w.reader, req.Notes)
	return w, err
}

// run gives the verdict.
func (w *walk) run(ctx context.Context) (Verdict, error) {
	err := w.judgeWay(ctx)
	w.verdict.Commits = w.newest()
	if r := rejection(err); r != nil {
		return w.rejected(r), nil
	}
	if err != nil && err != errEnough {
		return Verdict{}, err
	}
	v := w.verdict
	v.Accepted, v.Reason, v.Commit, v.At = true, Accepted, w.req.Tip, unix(w.state.Floor)
	v.Message = fmt.Sprintf("commit %s is accepted", short(w.req.Tip))
	v.State = w.state
	if err == errEnough {
		w.unfinished(&v)
	}
	if v.State.Accepted != w.req.State.Accepted {
		v.State.Generation = w.req.State.Generation + 1
	}
	return v, nil
}

// unfinished makes it the verdict of a call that does not come to the tip. Until a commit was judged nothing is accepted: the
// search for where to begin proves nothing.
func (w *walk) unfinished(v *Verdict) {
	way := w.way
	v.Accepted, v.Reason, v.At, v.Progress = false, Unfinished, time.Time{}, &way
	if w.judged == 0 {
		v.State, v.Reanchored = w.req.State, nil
	}
	v.Message = fmt.Sprintf("commit %s: every commit up to %s is accepted, and more are left to judge", short(w.req.Tip), short(v.State.Accepted))
}

func (w *walk) rejected(r *Rejection) Verdict {
	v := w.verdict
	v.Accepted, v.Reason, v.Message, v.Commit = false, r.Reason, r.Message, r.Commit
	if v.Commit == "" {
		v.Commit = w.req.Tip
	}
	v.State, v.Reanchored = w.req.State, nil
	return v
}

// judge judges the commits of a path, which are the newest first, oldest first.
func (w *walk) judgePath(ctx context.Context, path []string) (err error) {
	if w.parent, err = w.reader.commit(w.state.Accepted); err != nil {
		return err
	}
	for _, id := range slices.Backward(path) {
		if w.judged > 0 && w.enough() {
			return errEnough
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := w.reader.commit(id)
		if err != nil {
			return err
		}
		signed, err := w.judge(ctx, c)
		if r := rejection(at(err, id)); r != nil {
			signed.Reason = r.Reason
		} else if err != nil {
			return err
		}
		w.report(signed)
		if err != nil {
			return err
		}
		w.judged++
	}
	return nil
}

// report adds to what the verdict says of commits. It lets the oldest go, but not one at a time.
func (w *walk) report(s Signed) {
	if limit := w.req.Limits.Reported; len(w.verdict.Commits) >= 2*limit {
		w.verdict.Commits = slices.Delete(w.verdict.Commits, 0, limit)
	}
	w.verdict.Commits = append(w.verdict.Commits, s)
}

// newest gives the newest Limits.Reported of the commits.
func (w *walk) newest() []Signed {
	return w.verdict.Commits[max(0, len(w.verdict.Commits)-w.req.Limits.Reported):]
}

// twin tells whether a commit is the newest accepted one but for its signature. A Git server can serve one commit under many
// ids, since signatures have more than one encoding; a node that was given another than its neighbours must not be left
// behind. What builds on a twin vouches for it; as the tip it needs a signature of its own that counts.
func (w *walk) twin(c *commit) (bool, error) {
	if w.state.Payload == "" || c.payloadSum() != w.state.Payload {
		return false, nil
	}
	if c.id != w.req.Tip {
		return true, nil
	}
	var s Signed
	o, err := ownSignature(c, w.trust)
	if err != nil || o.principal != "" {
		return err == nil, at(err, c.id)
	}
	_, err = w.countersigners(c, &s)
	return len(s.Countersigners) > 0, at(err, c.id)
}

// looksBack is how many commits older than the newest accepted revision a message knows of.
const looksBack = 20_000

// notDescendant says how the tip lies to the newest accepted revision.
func (w *walk) notDescendant(ctx context.Context) error {
	tip, accepted := short(w.req.Tip), short(w.state.Accepted)
	for id, n := w.state.Accepted, 0; id != "" && n < min(w.req.Limits.Commits, looksBack); n++ {
		if id == w.req.Tip {
			return reject(NotDescendant, "commit %s is older than %s, the newest accepted revision: an old revision is offered again; to undo a change use git revert", tip, accepted)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := w.reader.commit(id)
		if errors.Is(err, ErrNotFound) || rejection(err) != nil {
			break // a clone made since history was rewritten does not have it
		}
		if err != nil {
			return err
		}
		id = c.firstParent()
	}
	return reject(NotDescendant, "commit %s does not descend from %s, the newest accepted revision, by first parents: history was rewritten; put the branch back, or have the root principals sign a re-anchor record (holdfast re-anchor %s %s)",
		tip, accepted, w.state.Accepted, w.req.Tip)
}
