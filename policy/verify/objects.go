package verify

import (
	"errors"
	"fmt"
	"reflect"
)

// Kinds of Git objects.
const (
	kindCommit = "commit"
	kindTree   = "tree"
	kindBlob   = "blob"
)

// defaulted gives l with defaults for its zero fields.
func (l Limits) defaulted() Limits {
	out, have := DefaultLimits(), reflect.ValueOf(l)
	v := reflect.ValueOf(&out).Elem()
	for i := range have.NumField() {
		if !have.Field(i).IsZero() {
			v.Field(i).Set(have.Field(i))
		}
	}
	return out
}

// reader reads objects within bounds. What is wrong with an object comes back as a *Rejection, what keeps it from being
// read as any other error.
type reader struct {
	objects Objects
	sizer   Sizer // nil if objects is none
	limits  Limits

	// trees are those read last: the diff of a commit reads the trees that the one before it read.
	trees     map[string][]byte
	treeBytes int
}

// cachedTreeBytes bounds what reader.trees holds.
const cachedTreeBytes = 8 << 20

func newReader(o Objects, l Limits) *reader {
	r := &reader{objects: o, limits: l.defaulted(), trees: map[string][]byte{}}
	r.sizer, _ = o.(Sizer)
	return r
}

func reject(reason, format string, args ...any) *Rejection {
	return &Rejection{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// rejection gives err as a *Rejection, or nil if objects could not be read.
func rejection(err error) *Rejection {
	var r *Rejection
	if errors.As(err, &r) {
		return r
	}
	return nil
}

// object reads one object of that kind and size. what names it in messages.
func (r *reader) object(id, kind, what string, limit int64) ([]byte, error) {
	if err := r.bounded(id, kind, what, limit); err != nil {
		return nil, err
	}
	have, raw, err := r.objects.Object(id)
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", kind, id, err)
	}
	if err := fits(have, kind, what, int64(len(raw)), limit); err != nil {
		return nil, err
	}
	return raw, nil
}

// bounded checks kind and size without reading the object, if that can be done.
func (r *reader) bounded(id, kind, what string, limit int64) error {
	if r.sizer == nil {
		return nil
	}
	have, size, err := r.sizer.Size(id)
	if err != nil {
		return fmt.Errorf("read size of %s %s: %w", kind, id, err)
	}
	return fits(have, kind, what, size, limit)
}

func fits(have, want, what string, size, limit int64) error {
	if have != want {
		reason := TreeInvalid
		if want == kindCommit {
			reason = CommitInvalid
		}
		return reject(reason, "%s is a %s object, not a %s", what, have, want)
	}
	if size > limit {
		return reject(TooLarge, "%s has %d bytes, over the bound of %d", what, size, limit)
	}
	return nil
}

// tree reads a tree. path names it in messages.
func (r *reader) tree(id, path string) ([]byte, error) {
	what := "the folder " + path
	if path == "" {
		what = "the root folder"
	}
	return r.boundedTree(id, what, r.limits.TreeBytes)
}

func (r *reader) boundedTree(id, what string, limit int64) ([]byte, error) {
	if raw, ok := r.trees[id]; ok {
		return raw, fits(kindTree, kindTree, what, int64(len(raw)), limit)
	}
	raw, err := r.object(id, kindTree, what, limit)
	if err != nil {
		return nil, err
	}
	if r.treeBytes += len(raw) + 64; r.treeBytes > cachedTreeBytes {
		clear(r.trees)
		r.treeBytes = len(raw) + 64
	}
	r.trees[id] = raw
	return raw, nil
}

// checkBlob looks at a file's kind and size.
func (r *reader) checkBlob(id, path string) error {
	if r.sizer != nil {
		return r.bounded(id, kindBlob, path, r.limits.BlobBytes)
	}
	_, err := r.object(id, kindBlob, path, r.limits.BlobBytes)
	return err
}

func (r *reader) commit(id string) (*commit, error) {
	raw, err := r.object(id, kindCommit, "commit "+short(id), r.limits.CommitBytes)
	if err != nil {
		return nil, at(err, id)
	}
	c, err := parseCommit(raw)
	if err != nil {
		return nil, at(reject(CommitInvalid, "commit %s is malformed: %v", short(id), err), id)
	}
	c.id = id
	return c, nil
}

// at names the offending commit in a rejection that names none yet.
func at(err error, commit string) error {
	if r := rejection(err); r != nil && r.Commit == "" {
		r.Commit = commit
	}
	return err
}

// short gives an id as people read it.
func short(id string) string { return id[:min(len(id), 12)] }
