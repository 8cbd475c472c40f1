package fleet

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Kind is what an entry of a folder is.
type Kind int

// The kinds.
const (
	Regular Kind = iota
	Folder
	Symlink
	// Other is a submodule, a socket, a device.
	Other
)

// Entry is one entry of a folder.
type Entry struct {
	Name string
	Kind Kind
	// Hash is Git's id of the content, if it is known without reading it.
	Hash string
}

// Tree is a fleet repo: a work tree or one revision. It need not be safe for concurrent use.
type Tree interface {
	// List gives the entries of a folder, "." being the root. A folder that is not there has none.
	List(dir string) ([]Entry, error)
	// Read gives the bytes of a regular file.
	Read(name string) ([]byte, error)
}

// Dir gives the work tree below dir.
func Dir(dir string) Tree { return workTree(dir) }

type workTree string

func (w workTree) path(name string) string { return filepath.Join(string(w), filepath.FromSlash(name)) }

func (w workTree) List(dir string) ([]Entry, error) {
	list, err := os.ReadDir(w.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	out := make([]Entry, 0, len(list))
	for _, e := range list {
		kind := Other
		switch {
		case e.Type().IsRegular():
			kind = Regular
		case e.IsDir():
			kind = Folder
		case e.Type()&fs.ModeSymlink != 0:
			kind = Symlink
		}
		out = append(out, Entry{Name: e.Name(), Kind: kind})
	}
	return out, nil
}

func (w workTree) Read(name string) ([]byte, error) {
	data, err := os.ReadFile(w.path(name))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// Objects reads Git objects: package source's Repo does.
type Objects interface {
	// Object gives an object's kind and its bytes.
	Object(id string) (kind string, raw []byte, err error)
}

// Revision gives the tree of a commit.
func Revision(objects Objects, commit string) (Tree, error) {
	raw, err := object(objects, commit, "commit")
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	id, ok := bytes.CutPrefix(line, []byte("tree "))
	if !ok || len(id) != 2*sha1.Size {
		return nil, fmt.Errorf("commit %s names no tree", commit)
	}
	return &revision{objects: objects, root: string(id), folders: map[string][]Entry{}}, nil
}

type revision struct {
	objects Objects
	root    string
	folders map[string][]Entry // those listed so far
}

func (r *revision) List(dir string) ([]Entry, error) {
	if entries, ok := r.folders[dir]; ok {
		return entries, nil
	}
	id := r.root
	if dir != "." {
		e, ok, err := r.find(dir)
		if err != nil || !ok || e.Kind != Folder {
			return nil, err
		}
		id = e.Hash
	}
	raw, err := object(r.objects, id, "tree")
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	entries, err := parseTree(raw)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	r.folders[dir] = entries
	return entries, nil
}

func (r *revision) find(name string) (Entry, bool, error) {
	entries, err := r.List(path.Dir(name))
	if err != nil {
		return Entry{}, false, err
	}
	for _, e := range entries {
		if e.Name == path.Base(name) {
			return e, true, nil
		}
	}
	return Entry{}, false, nil
}

func (r *revision) Read(name string) ([]byte, error) {
	e, ok, err := r.find(name)
	if err != nil {
		return nil, err
	}
	if !ok || e.Kind != Regular {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	data, err := object(r.objects, e.Hash, "blob")
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

func object(o Objects, id, want string) ([]byte, error) {
	kind, raw, err := o.Object(id)
	if err != nil {
		return nil, err
	}
	if kind != want {
		return nil, fmt.Errorf("object %s is a %s, not a %s", id, kind, want)
	}
	return raw, nil
}

// parseTree reads Git's form: mode, space, name, NUL and the raw id, for each entry.
func parseTree(raw []byte) ([]Entry, error) {
	var out []Entry
	for len(raw) > 0 {
		mode, rest, ok := bytes.Cut(raw, []byte(" "))
		name, rest, ok2 := bytes.Cut(rest, []byte{0})
		if !ok || !ok2 || len(rest) < sha1.Size {
			return nil, errors.New("the tree object is damaged")
		}
		e := Entry{Name: string(name), Hash: hex.EncodeToString(rest[:sha1.Size])}
		switch {
		case string(mode) == "40000":
			e.Kind = Folder
		case string(mode) == "120000":
			e.Kind = Symlink
		case !strings.HasPrefix(string(mode), "100"):
			e.Kind = Other
		}
		out = append(out, e)
		raw = rest[sha1.Size:]
	}
	return out, nil
}

// blobHash gives Git's id of a file's content.
func blobHash(data []byte) string {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(data))
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}
