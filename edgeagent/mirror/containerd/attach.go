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

// Attach has pulls from the given registries go to the mirror, and those from no others. It takes the whole desired state and is
// idempotent: done again it goes on where it was interrupted, and brings the files up to date. What somebody else changed meanwhile is
// kept, behind the mirror. A registry whose file cannot be changed does not keep the others from it. Notes say what is not as it was.
func Attach(o Options) (notes []string, err error) {
	if o.Step == nil {
		o.Step = func(string) {}
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	r, err := load(o.State)
	if err != nil {
		return nil, err
	}
	a := &attachment{o, r, nil}
	var errs []error
	placed, failed := map[string]bool{}, map[string]bool{}
	for _, registry := range o.Registries {
		path, err := a.attach(registry)
		if err != nil {
			errs = append(errs, fmt.Errorf("have containerd pull %s from the mirror: %w", registry.Name, err))
			failed[registry.Name] = true
		}
		placed[path] = true
	}
	for _, f := range slices.Backward(slices.Clone(a.Files)) {
		if !placed[f.Path] && !failed[f.Registry] {
			errs = append(errs, a.takeBack(f))
		}
	}
	return a.notes, errors.Join(errs...)
}

// attachment is a change of the files on its way.
type attachment struct {
	Options
	record
	notes []string
}

func (a *attachment) note(format string, args ...any) {
	a.notes = append(a.notes, fmt.Sprintf(format, args...))
}

// attach writes one registry's file.
func (a *attachment) attach(registry Registry) (path string, err error) {
	path, inForce, err := a.place(registry.Name, a.onlyOurs)
	if err != nil {
		return path, err
	}
	was := file{Registry: registry.Name, Path: path}
	if i := a.index(path); i >= 0 {
		was = a.Files[i]
	}
	original, had, info, err := was.original()
	if err != nil {
		return path, err
	}
	base := original
	if !had {
		if base, err = inherited(inForce, path); err != nil {
			return path, err
		}
	}
	want, err := a.compose(base, registry.Only)
	if err != nil {
		return path, fmt.Errorf("%s: %w", path, err)
	}
	now, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	f := file{Registry: registry.Name, Path: path, Had: had, Only: registry.Only, Wrote: digest(want)}
	if was.wrote(now) {
		f.Was = digest(now)
	}
	if bytes.Equal(now, want) {
		f.Was = ""
		if f == was {
			return path, nil
		}
	}
	return path, a.write(f, original, want, info)
}

// write puts the file in its place. The journal comes first.
func (a *attachment) write(f file, original, want []byte, info fs.FileInfo) error {
	if i := a.index(f.Path); i >= 0 {
		a.Files[i] = f
	} else {
		a.Files = append(a.Files, f)
	}
	dirs := missing(filepath.Dir(f.Path))
	a.Made = append(a.Made, slices.DeleteFunc(slices.Clone(dirs), func(dir string) bool { return slices.Contains(a.Made, dir) })...)
	a.Step("journal " + f.Registry)
	if err := a.save(a.State); err != nil {
		return err
	}
	for _, dir := range dirs {
		a.Step("folder " + dir)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	mode := fs.FileMode(0o644)
	if f.Had {
		mode = info.Mode().Perm()
		a.Step("aside " + f.Registry)
		if err := keepAside(f.Path, original, info); err != nil {
			return err
		}
	}
	a.Step("write " + f.Registry)
	return durable.Replace(f.Path, want, info, mode)
}

// missing lists the folders that have to be made for one to be there, outer ones first.
func missing(dir string) []string {
	if exists(dir) {
		return nil
	}
	return append(missing(filepath.Dir(dir)), dir)
}

// original gives the text that is not ours, whether somebody else has a file there, and what else is known of the file.
func (f file) original() (text []byte, had bool, info fs.FileInfo, err error) {
	now, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil, nil
	}
	if err != nil {
		return nil, false, nil, err
	}
	if info, err = os.Stat(f.Path); err != nil {
		return nil, false, nil, err
	}
	rest, ours := strip(now)
	if !ours {
		return now, true, info, nil
	}
	kept, err := os.ReadFile(f.Path + aside)
	edited := !f.wrote(now) && len(bytes.TrimSpace(rest)) > 0
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return rest, edited, info, nil // if nobody changed it, what stands beside our lines was inherited
	case err != nil:
		return nil, false, nil, err
	case edited && !bytes.Equal(kept, rest):
		return rest, true, info, nil
	}
	info, err = os.Stat(f.Path + aside)
	return kept, true, info, err
}

// keepAside makes what is set aside the original, which may be the file that is there now.
func keepAside(path string, original []byte, info fs.FileInfo) error {
	kept, err := os.ReadFile(path + aside)
	if err == nil && bytes.Equal(kept, original) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	now, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, original) {
		return durable.Replace(path+aside, original, info, info.Mode().Perm())
	}
	if err := os.Remove(path + aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SetAside(path, path+aside)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
