package containerd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
)

// Detach takes back all that Attach wrote, or goes on with it where it was interrupted. What somebody else changed meanwhile stays.
// Nothing to take back is no error. Notes say what is not as it was.
func Detach(state string, step func(point string)) (notes []string, err error) {
	if step == nil {
		step = func(string) {}
	}
	r, err := load(state)
	if err != nil {
		return nil, err
	}
	a := &attachment{Options{State: state, Step: step}, r, nil}
	var errs []error
	for _, f := range slices.Backward(slices.Clone(a.Files)) {
		errs = append(errs, a.takeBack(f))
	}
	if len(a.Files) == 0 && len(a.Made) > 0 {
		errs = append(errs, a.leave())
	}
	return a.notes, errors.Join(errs...)
}

// takeBack makes one file what it was, and forgets it.
func (a *attachment) takeBack(f file) error {
	if err := a.restore(f); err != nil {
		return fmt.Errorf("take %s back: %w", f.Path, err)
	}
	dir := filepath.Dir(f.Path)
	if slices.Contains(a.Made, dir) {
		if err := a.removeDir(dir); err != nil {
			return err
		}
	}
	a.Step("forget " + f.Registry)
	a.Files = slices.DeleteFunc(a.Files, func(other file) bool { return other.Path == f.Path })
	return a.save(a.State)
}

// leave removes the folders that were made for all.
func (a *attachment) leave() error {
	for _, dir := range slices.Backward(slices.Clone(a.Made)) {
		if err := a.removeDir(dir); err != nil {
			return err
		}
	}
	a.Step("forget folders")
	return a.save(a.State)
}

// removeDir removes a folder that was made, unless somebody uses it.
func (a *attachment) removeDir(dir string) error {
	a.Step("remove folder " + dir)
	err := os.Remove(dir)
	if entries, readErr := os.ReadDir(dir); readErr == nil && len(entries) > 0 {
		a.note("%s stays: somebody put %s there", dir, entries[0].Name())
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	a.Made = slices.DeleteFunc(a.Made, func(other string) bool { return other == dir })
	return durable.SyncDir(filepath.Dir(dir))
}

func (a *attachment) restore(f file) error {
	now, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		if f.Had {
			a.note("%s was removed meanwhile and stays so", f.Path)
		}
		return a.drop(f)
	}
	if err != nil {
		return err
	}
	rest, ours := strip(now)
	switch {
	case !ours:
		if !sameFile(f.Path, f.Path+aside) && (exists(f.Path+aside) || !f.Had) {
			a.note("%s was replaced meanwhile and stays", f.Path)
		}
		return a.drop(f)
	case !f.wrote(now) && len(bytes.TrimSpace(rest)) > 0 && !a.asKept(f, rest):
		return a.keepEdited(f, rest)
	case exists(f.Path + aside):
		a.Step("put back " + f.Registry)
		if err := os.Rename(f.Path+aside, f.Path); err != nil {
			return err
		}
	case f.Had:
		return fmt.Errorf("%s is gone: put the file that was there before in its place, or remove it", f.Path+aside)
	default:
		a.Step("remove " + f.Registry)
		if err := os.Remove(f.Path); err != nil {
			return err
		}
	}
	return durable.SyncDir(filepath.Dir(f.Path))
}

// asKept tells whether a text is the one that was set aside.
func (a *attachment) asKept(f file, text []byte) bool {
	kept, err := os.ReadFile(f.Path + aside)
	return err == nil && bytes.Equal(kept, text)
}

// keepEdited takes only our lines out of a file that was changed since.
func (a *attachment) keepEdited(f file, rest []byte) error {
	info, err := os.Stat(f.Path)
	if err != nil {
		return err
	}
	a.Step("edit " + f.Registry)
	if f.Only && exists(f.Path+aside) {
		changed := f.Path + ".changed"
		a.note("%s was changed meanwhile: what was added lies in %s", f.Path, changed)
		if err := durable.Replace(changed, rest, info, info.Mode().Perm()); err != nil {
			return err
		}
		if err := os.Rename(f.Path+aside, f.Path); err != nil {
			return err
		}
		return durable.SyncDir(filepath.Dir(f.Path))
	}
	a.note("%s was changed meanwhile: only the mirror's lines were taken out", f.Path)
	if err := durable.Replace(f.Path, rest, info, info.Mode().Perm()); err != nil {
		return err
	}
	return a.drop(f)
}

// drop removes what was set aside and is of no use any more.
func (a *attachment) drop(f file) error {
	if !exists(f.Path + aside) {
		return nil
	}
	a.Step("drop " + f.Registry)
	if err := os.Remove(f.Path + aside); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(f.Path))
}

func sameFile(a, b string) bool {
	one, err1 := os.Stat(a)
	other, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(one, other)
}

// Check says what somebody changed since so that containerd no longer asks the mirror. Files that Attach never wrote are a problem too.
func Check(o Options) (problems []string, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	r, err := load(o.State)
	if err != nil {
		return nil, err
	}
	for _, registry := range o.Registries {
		path, inForce, err := o.place(registry.Name, func(string) bool { return false })
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		i := r.index(path)
		if i < 0 || filepath.Dir(path) != inForce {
			problems = append(problems, fmt.Sprintf("%s does not lead pulls of %s to the mirror", path, registry.Name))
			continue
		}
		if problem := o.inspect(path, registry, r.Files[i]); problem != "" {
			problems = append(problems, path+" "+problem)
		}
	}
	return problems, nil
}

func (o Options) inspect(path string, registry Registry, f file) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "cannot be read: " + err.Error()
	}
	if digest(raw) == f.Wrote && f.Only == registry.Only {
		return ""
	}
	document, order, err := parseHosts(raw)
	switch {
	case err != nil:
		return "is not used: " + err.Error()
	case registry.Only && (document["server"] != o.Mirror || len(order) > 0):
		return "lets containerd ask others than the mirror, though something of the registry must be signed"
	case !registry.Only && (len(order) == 0 || order[0] != o.Mirror):
		return "does not ask the mirror first"
	}
	return ""
}
