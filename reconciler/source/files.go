package source

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/source/pack"
)

// File is one file of a revision, its bytes checked against its id.
type File struct {
	Path string `json:"path"`
	// Mode is Git's: 100644 or 100755.
	Mode string `json:"mode"`
	// Hash is the blob's id.
	Hash string `json:"hash"`
	Data []byte `json:"data"`
}

// Files gives the files of a commit, sorted by path. within says of a folder's path, which ends in a slash, whether to
// look into it, and of a file's path whether to take it. Symlinks and submodules are left out. More than the limits allow
// is an error with reason TooLarge.
func (r *Repo) Files(commit string, within func(path string) bool, lim Limits) ([]File, error) {
	root, err := r.Root(commit)
	if err != nil {
		return nil, err
	}
	e := &export{repo: r, within: within, lim: lim.WithDefaults()}
	if err := e.folder(root, "", 0); err != nil {
		return nil, fmt.Errorf("read the files of %.12s: %w", commit, err)
	}
	slices.SortFunc(e.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return e.files, nil
}

// export gathers files.
type export struct {
	repo   *Repo
	within func(string) bool
	lim    Limits
	files  []File
	seen   int64
	bytes  int64
}

// folder takes what is wanted of one folder.
func (e *export) folder(id, prefix string, depth int) error {
	if depth > e.lim.Depth {
		return fail(condition.ReasonTooLarge, "%s: folders nest more than %d deep", prefix, e.lim.Depth)
	}
	list, err := e.repo.Tree(id)
	if err != nil {
		return err
	}
	for _, entry := range list {
		if e.seen++; e.seen > e.lim.Files {
			return fail(condition.ReasonTooLarge, "more than %d files and folders", e.lim.Files)
		}
		if bad := badName(entry.Name); bad {
			return fail(condition.ReasonProtocolError, "%s%q: no file may have this name", prefix, entry.Name)
		}
		path := prefix + entry.Name
		switch entry.Mode {
		case pack.Folder:
			if e.within(path + "/") {
				err = e.folder(entry.Hash, path+"/", depth+1)
			}
		case pack.Submodule, pack.Symlink:
		default:
			if e.within(path) {
				err = e.file(entry, path)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// file takes one file.
func (e *export) file(entry Entry, path string) error {
	data, err := e.repo.kind(entry.Hash, "blob")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if e.bytes += int64(len(data)); e.bytes > e.lim.ExportBytes {
		return fail(condition.ReasonTooLarge, "%s: the files to evaluate have more than %d bytes", path, e.lim.ExportBytes)
	}
	e.files = append(e.files, File{Path: path, Mode: entry.Mode, Hash: entry.Hash, Data: data})
	return nil
}

// badName says whether a name could lead somewhere else once it is part of a path.
func badName(name string) bool {
	return name == "." || name == ".." || strings.EqualFold(name, ".git") || strings.ContainsAny(name, "/\\")
}
