package source

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/source/pack"
)

// Repo reads objects of one repository. It is not safe for concurrent use. Close it.
type Repo struct {
	store *pack.Store
	// dir is the clone's folder, for a clone.
	dir string
	// top is the top of the work tree, refs reads the refs, shallow says that history is cut off: for work trees.
	top     string
	refs    *filesystem.Storage
	shallow bool
}

// Open opens the bare clone in dir.
func Open(dir string) (*Repo, error) {
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); err != nil {
		return nil, fmt.Errorf("open the clone: %w", err)
	}
	store, err := pack.OpenStore(Limits{}.WithDefaults().ObjectBytes, filepath.Join(dir, "objects"))
	if err != nil {
		return nil, fmt.Errorf("open the clone: %w", err)
	}
	return &Repo{store: store, dir: dir}, nil
}

// Close releases the repository's files.
func (r *Repo) Close() error { return r.store.Close() }

// Top gives the top folder of the work tree, or "" if there is none.
func (r *Repo) Top() string { return r.top }

// Object gives an object's kind (commit, tree, blob or tag) and its bytes, hashed again and equal to id. An error is
// ErrNotFound, ErrDamaged or one with reason TooLarge, wrapped. The bytes are shared: do not change them.
func (r *Repo) Object(text string) (kind string, raw []byte, err error) {
	id, err := pack.ParseID(text)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	k, raw, err := r.store.Object(id)
	if err != nil {
		return "", nil, r.explain(err)
	}
	return k.String(), raw, nil
}

// Size gives an object's kind and size without reading all of it.
func (r *Repo) Size(text string) (kind string, size int64, err error) {
	id, err := pack.ParseID(text)
	if err != nil {
		return "", 0, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	k, size, err := r.store.Size(id)
	if err != nil {
		return "", 0, r.explain(err)
	}
	return k.String(), size, nil
}

// explain gives an error of reading its reason, and a hint.
func (r *Repo) explain(err error) error {
	switch {
	case errors.Is(err, pack.ErrTooLarge):
		return &Error{Reason: condition.ReasonTooLarge, Err: err}
	case r.shallow && errors.Is(err, ErrNotFound):
		return fmt.Errorf("%w (this clone is shallow: run git fetch --unshallow)", err)
	}
	return err
}

// Refs gives the refs of the clone as of the last complete fetch; of a work tree: HEAD and the notes.
func (r *Repo) Refs() (Refs, error) {
	if r.refs == nil {
		return readRefs(r.dir)
	}
	tip, err := r.Resolve("HEAD")
	if err != nil {
		return Refs{}, err
	}
	notes, err := r.Resolve(NotesRef)
	if err != nil {
		notes = "" // most repositories have none
	}
	return Refs{Tip: tip, Notes: notes}, nil
}

// Entry is one entry of a tree.
type Entry struct {
	Name string
	// Mode is Git's, as it is in the tree: 40000 for a folder, 160000 for a submodule.
	Mode string
	Hash string
}

// Tree gives the entries of the tree with that id, in Git's order.
func (r *Repo) Tree(id string) ([]Entry, error) {
	raw, err := r.kind(id, "tree")
	if err != nil {
		return nil, err
	}
	var list []Entry
	err = pack.WalkTree(raw, func(mode string, name []byte, to pack.ID) error {
		list = append(list, Entry{string(name), mode, to.String()})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", id, err)
	}
	return list, nil
}

// kind reads an object that must be of that kind.
func (r *Repo) kind(id, want string) ([]byte, error) {
	got, raw, err := r.Object(id)
	if err == nil && got != want {
		err = fail(condition.ReasonProtocolError, "%s is a %s where a %s belongs", id, got, want)
	}
	return raw, err
}

// Root gives the id of a commit's tree.
func (r *Repo) Root(commit string) (string, error) {
	raw, err := r.kind(commit, "commit")
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(raw[:min(len(raw), 64)]), "\n")
	id, ok := strings.CutPrefix(line, "tree ")
	if _, err := pack.ParseID(id); !ok || err != nil {
		return "", fail(condition.ReasonProtocolError, "commit %s does not begin with its tree", commit)
	}
	return id, nil
}

// At finds the entry at path ("" for the root) in a commit. The bool says whether there is one.
func (r *Repo) At(commit, path string) (Entry, bool, error) {
	root, err := r.Root(commit)
	if err != nil {
		return Entry{}, false, err
	}
	at := Entry{Mode: pack.Folder, Hash: root}
	for path != "" {
		var name string
		name, path, _ = strings.Cut(path, "/")
		if at.Mode != pack.Folder {
			return Entry{}, false, nil
		}
		next, found, err := r.find(at.Hash, name)
		if err != nil || !found {
			return Entry{}, false, err
		}
		at = next
	}
	return at, true, nil
}

// errFound ends a walk.
var errFound = errors.New("found")

// find gives a tree's entry of that name.
func (r *Repo) find(tree, name string) (e Entry, found bool, err error) {
	raw, err := r.kind(tree, "tree")
	if err != nil {
		return Entry{}, false, err
	}
	err = pack.WalkTree(raw, func(mode string, at []byte, to pack.ID) error {
		if string(at) != name {
			return nil
		}
		e = Entry{name, mode, to.String()}
		return errFound
	})
	if err == nil || errors.Is(err, errFound) {
		return e, err != nil, nil
	}
	return Entry{}, false, fmt.Errorf("tree %s: %w", tree, err)
}
