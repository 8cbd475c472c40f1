package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

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
	parent  *commit
	verdict Verdict
}

func newWalk(o Objects, req Request) (*walk, error) {
	if req.State.Accepted == "" {
		return nil, errNoState
	}
	w := &walk{req: req, reader: newReader(o, req.Limits), state: req.State}
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
	err := w.judgePath(ctx)
	w.verdict.Commits = w.newest()
	if r := rejection(err); r != nil {
		return w.rejected(r), nil
	}
	if err != nil {
		return Verdict{}, err
	}
	v := w.verdict
	v.Accepted, v.Reason, v.Commit, v.At = true, Accepted, w.req.Tip, unix(w.state.Floor)
	v.State = w.state
	v.Message = fmt.Sprintf("commit %s is accepted", short(w.req.Tip))
	if w.state.Accepted != w.req.State.Accepted {
		v.State.Generation = w.req.State.Generation + 1
	}
	return v, nil
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

// judgePath judges every commit that lies on the tip's first-parent path since the newest accepted one, oldest first.
func (w *walk) judgePath(ctx context.Context) error {
	if !isID(w.req.Tip) {
		return reject(CommitInvalid, "the tip %q is not the id of a commit", w.req.Tip)
	}
	if w.req.Tip == w.state.Accepted {
		return nil
	}
	path, err := w.path(ctx)
	if err != nil {
		return err
	}
	if w.parent, err = w.reader.commit(w.state.Accepted); err != nil {
		return err
	}
	for _, id := range slices.Backward(path) {
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

// path gives the commits from the tip back to the newest accepted one, which is left out, along first parents. If that is not
// on the way, a re-anchor record can make another commit on the way take its place.
func (w *walk) path(ctx context.Context) ([]string, error) {
	targets, err := w.reanchorTargets()
	if err != nil {
		return nil, err
	}
	var path []string
	reanchor := -1 // where on the path a record leads, the newest such place
	for id := w.req.Tip; id != ""; {
		if id == w.state.Accepted {
			return path, nil
		}
		if reanchor < 0 && targets[id] {
			reanchor = len(path)
		}
		if len(path) >= w.req.Limits.Commits {
			return nil, reject(HistoryTooLong, "commit %s is more than %d commits ahead of %s, the newest accepted revision", short(w.req.Tip), w.req.Limits.Commits, short(w.state.Accepted))
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, err := w.reader.commit(id)
		if err != nil {
			return nil, err
		}
		if twin, err := w.twin(c); err != nil {
			return nil, err
		} else if twin {
			w.state.Accepted = id
			return path, nil
		}
		path = append(path, id)
		id = c.firstParent()
	}
	if reanchor < 0 {
		return nil, w.notDescendant(ctx)
	}
	to := path[reanchor]
	if err := w.reanchor(ctx, to); err != nil {
		return nil, at(err, to)
	}
	return path[:reanchor], nil
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

// notDescendant says how the tip lies to the newest accepted revision.
func (w *walk) notDescendant(ctx context.Context) error {
	tip, accepted := short(w.req.Tip), short(w.state.Accepted)
	for id, n := w.state.Accepted, 0; id != "" && n < w.req.Limits.Commits; n++ {
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
