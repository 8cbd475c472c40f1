package verify

import (
	"context"
	"errors"
)

// Progress is how far a verdict has come that takes several calls.
type Progress struct {
	// Tips are commits to come to, the last one first: Tip itself, and before it those on its first-parent path that the
	// search for the newest accepted revision passed, a segment apart. While it is not found the search goes on from the last.
	Tips  []string `json:"tips"`
	Found bool     `json:"found,omitempty"`
	// Walked is how many commits the search has passed.
	Walked int `json:"walked,omitempty"`
	// Reanchor is the newest commit passed that a re-anchor record leads to, Ahead how many of Tips are not older.
	Reanchor string `json:"reanchor,omitempty"`
	Ahead    int    `json:"ahead,omitempty"`
}

// errEnough ends a call whose Request has Enough.
var errEnough = errors.New("enough for one call")

// start gives what lies ahead of a request.
func start(req Request) Progress {
	if p := req.Progress; p != nil && len(p.Tips) > 0 && p.Tips[0] == req.Tip {
		way := *p
		way.Tips = append([]string(nil), p.Tips...)
		return way
	}
	return Progress{Tips: []string{req.Tip}}
}

func (w *walk) enough() bool { return w.req.Enough != nil && w.req.Enough() }

// judgeWay judges every commit that lies on the tip's first-parent path since the newest accepted one, a segment at a time,
// so that neither memory nor a call grows with the path.
func (w *walk) judgeWay(ctx context.Context) error {
	if !isID(w.req.Tip) {
		return reject(CommitInvalid, "the tip %q is not the id of a commit", w.req.Tip)
	}
	for len(w.way.Tips) > 0 {
		last := len(w.way.Tips) - 1
		if w.way.Tips[last] == w.state.Accepted {
			w.way.Tips, w.way.Found = w.way.Tips[:last], true
			continue
		}
		path, err := w.path(ctx)
		if err != nil {
			return err
		}
		if len(path) > 0 {
			if err := w.judgePath(ctx, path); err != nil {
				return err
			}
		}
	}
	return nil
}

// path gives the commits from the last of the way's tips back to the newest accepted one, which is left out, along first
// parents; it adds tips on the way. If the newest accepted commit is not on the path, a re-anchor record can make another one
// take its place.
func (w *walk) path(ctx context.Context) ([]string, error) {
	targets, err := w.reanchorTargets()
	if err != nil {
		return nil, err
	}
	var path []string
	for id := w.way.Tips[len(w.way.Tips)-1]; id != ""; {
		if id == w.state.Accepted {
			w.found()
			return path, nil
		}
		if err := w.pass(ctx, id, targets); err != nil {
			return nil, err
		}
		if len(path) > 0 && !w.way.Found && w.enough() {
			w.way.Tips = append(w.way.Tips, id)
			return nil, errEnough
		}
		if len(path) >= w.req.Limits.Segment {
			w.way.Tips, path = append(w.way.Tips, id), path[:0]
		}
		c, err := w.reader.commit(id)
		if err != nil {
			return nil, err
		}
		if twin, err := w.twin(c); err != nil {
			return nil, err
		} else if twin {
			w.state.Accepted = id
			w.found()
			return path, nil
		}
		path = append(path, id)
		id = c.firstParent()
		w.way.Walked++
	}
	if w.way.Reanchor == "" {
		return nil, w.notDescendant(ctx)
	}
	to := w.way.Reanchor
	if err := w.reanchor(ctx, to); err != nil {
		return nil, at(err, to)
	}
	w.way.Tips = w.way.Tips[:w.way.Ahead]
	w.found()
	return nil, nil
}

// pass notes what is to be said of a commit before it is read.
func (w *walk) pass(ctx context.Context, id string, targets map[string]bool) error {
	if w.way.Reanchor == "" && targets[id] {
		w.way.Reanchor, w.way.Ahead = id, len(w.way.Tips)
	}
	if !w.way.Found && w.way.Walked >= w.req.Limits.Commits {
		return reject(HistoryTooLong, "commit %s is more than %d commits ahead of %s, the newest accepted revision", short(w.req.Tip), w.req.Limits.Commits, short(w.state.Accepted))
	}
	return ctx.Err()
}

// found ends the search.
func (w *walk) found() { w.way.Found, w.way.Walked, w.way.Reanchor, w.way.Ahead = true, 0, "", 0 }
