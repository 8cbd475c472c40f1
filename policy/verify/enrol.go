package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

// EnrolWithin is Enrol with bounds of its own.
func EnrolWithin(o Objects, anchor string, l Limits) (State, error) {
	if !isID(anchor) {
		return State{}, &Rejection{Reason: CommitInvalid, Commit: anchor, Message: fmt.Sprintf("anchor %q: give the whole id of a commit, 40 hex digits", anchor)}
	}
	s, err := anchored(context.Background(), newReader(o, l), anchor)
	return s, at(err, anchor)
}

// anchored gives the state of a node that takes a commit's word for everything: its tree is checked whole.
func anchored(ctx context.Context, r *reader, id string) (State, error) {
	c, err := r.commit(id)
	if err != nil {
		return State{}, err
	}
	diff, err := diffTrees(ctx, r, "", c.tree, 0, func(string) {})
	if err != nil {
		return State{}, err
	}
	s := State{Anchor: id, Accepted: id, Payload: c.payloadSum(), Floor: c.date.Unix(), Files: diff.files, Generation: 1}
	if s.TrustTree, err = trustTree(r, c.tree); err != nil {
		return State{}, err
	}
	if s.Trust, err = trustFiles(r, s.TrustTree); err != nil {
		return State{}, err
	}
	t, err := parseTrust(s.Trust)
	if err != nil {
		return State{}, err
	}
	s.Fleet = t.Policy.Fleet
	return s, nil
}

// parseTrust parses trust/ and holds it to the rules it must keep to be in force.
func parseTrust(files trust.Files) (*trust.Trust, error) {
	t, err := trust.Parse(files)
	if err == nil {
		err = t.CheckRecovery()
	}
	if err != nil {
		return nil, reject(TrustInvalid, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return t, nil
}

// trustTree gives the id of trust/ in a root tree.
func trustTree(r *reader, root string) (string, error) {
	raw, err := r.tree(root, "")
	if err != nil {
		return "", err
	}
	e, ok, err := find(raw, trust.Folder)
	switch {
	case err != nil:
		return "", malformed(err, nil)
	case !ok:
		return "", reject(TrustInvalid, "there is no folder %s/", trust.Folder)
	case e.mode != modeTree:
		return "", reject(TrustInvalid, "%s is not a folder", trust.Folder)
	}
	return e.hexID(), nil
}

// trustFiles reads the files of trust/.
func trustFiles(r *reader, tree string) (trust.Files, error) {
	files := trust.Files{}
	total := 0
	var read func(tree, prefix string) error
	read = func(tree, prefix string) error {
		raw, err := r.tree(tree, trust.Folder+"/"+prefix)
		if err != nil {
			return err
		}
		for len(raw) > 0 {
			e, rest, err := nextEntry(raw)
			if err != nil {
				return malformed(err, []string{trust.Folder})
			}
			raw = rest
			name := prefix + string(e.name)
			switch e.mode {
			case modeTree:
				if err := read(e.hexID(), name+"/"); err != nil {
					return err
				}
				continue
			case modeFile, modeExecutable:
			default:
				return reject(TrustInvalid, "%s/%s is not a regular file", trust.Folder, name)
			}
			data, err := r.object(e.hexID(), kindBlob, trust.Folder+"/"+name, trust.MaxFileBytes)
			if err != nil {
				return err
			}
			if total += len(data); total > trust.MaxBytes || len(files) >= trust.MaxFiles {
				return reject(TooLarge, "%s/ is over the bound of %d files and %d bytes", trust.Folder, trust.MaxFiles, trust.MaxBytes)
			}
			files[name] = data
		}
		return nil
	}
	return files, read(tree, "")
}

func unix(secs int64) time.Time { return time.Unix(secs, 0).UTC() }

var errNoState = errors.New("verify: the state names no accepted commit: enrol first")
