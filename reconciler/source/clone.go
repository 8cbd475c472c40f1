package source

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-dev/holdfast/reconciler/source/pack"
)

// The clone is an ordinary bare repository, so that people can look into it with git. HEAD names the followed branch.

const headPrefix = "ref: refs/heads/"

// initClone makes an empty clone. HEAD comes last: a folder without it is not a clone.
func initClone(dir, branch string) error {
	for _, sub := range []string{"objects/pack", "objects/info", "refs/heads", "refs/notes"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	config := "[core]\n\trepositoryformatversion = 0\n\tbare = true\n[gc]\n\tauto = 0\n"
	if err := writeFile(filepath.Join(dir, "config"), config); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "HEAD"), headPrefix+branch+"\n")
}

// readRefs reads what HEAD and the notes name. A ref that is not there is "".
func readRefs(dir string) (Refs, error) {
	head, err := os.ReadFile(filepath.Join(dir, "HEAD"))
	if err != nil {
		return Refs{}, err
	}
	branch, ok := strings.CutPrefix(strings.TrimSpace(string(head)), headPrefix)
	if !ok || checkBranch(branch) != nil {
		return Refs{}, fmt.Errorf("%w: HEAD does not name a branch", ErrDamaged)
	}
	var refs Refs
	if refs.Tip, err = readRef(dir, "refs/heads/"+branch); err != nil {
		return Refs{}, err
	}
	refs.Notes, err = readRef(dir, NotesRef)
	return refs, err
}

func readRef(dir, name string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if missing(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	id, err := pack.ParseID(string(bytes.TrimSpace(raw)))
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrDamaged, name, err)
	}
	return id.String(), nil
}

// writeRefs moves the refs, the notes first: a commit never shows without the countersignatures that came with it.
func writeRefs(dir, branch string, want Refs) error {
	if err := writeRef(dir, NotesRef, want.Notes); err != nil {
		return err
	}
	if err := writeRef(dir, "refs/heads/"+branch, want.Tip); err != nil {
		return err
	}
	head, err := os.ReadFile(filepath.Join(dir, "HEAD"))
	if err != nil || string(head) == headPrefix+branch+"\n" {
		return err
	}
	return writeFile(filepath.Join(dir, "HEAD"), headPrefix+branch+"\n")
}

func writeRef(dir, name, id string) error {
	old, err := readRef(dir, name)
	if err == nil && old == id {
		return nil
	}
	file := filepath.Join(dir, filepath.FromSlash(name))
	if id == "" {
		return os.Remove(file)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return writeFile(file, id+"\n")
}

// writeFile replaces a file at once and durably. The temporary name is always the same, so that none pile up.
func writeFile(name, text string) (err error) {
	temp := filepath.Join(filepath.Dir(name), ".tmp-"+filepath.Base(name))
	f, err := os.Create(temp)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, name); err != nil {
		return err
	}
	return pack.SyncDir(filepath.Dir(name))
}

// firstParent gives a commit's first parent, or "".
func firstParent(s *pack.Store, text string) (string, error) {
	id, err := pack.ParseID(text)
	if err != nil {
		return "", err
	}
	kind, raw, err := s.Object(id)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if kind != pack.Commit {
		return "", fmt.Errorf("%w: a ref names a %s", ErrDamaged, kind)
	}
	_, rest, _ := bytes.Cut(raw, []byte("\n")) // the tree's line
	if value, ok := bytes.CutPrefix(rest, []byte("parent ")); ok && len(value) > 40 {
		return string(value[:40]), nil
	}
	return "", nil
}
