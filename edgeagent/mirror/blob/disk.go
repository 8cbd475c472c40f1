package blob

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
)

// disk is every way in which the store changes the file system, one call each, so that a test can count, fail or end the process at
// any of them.
type disk struct {
	// step is told each operation before it happens; an error is returned in its place. nil outside tests. Operations on two writers
	// may come at once.
	step func(op, path string) error
}

func (k disk) try(op, path string) error {
	if k.step == nil {
		return nil
	}
	if err := k.step(op, path); err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

// openPartial opens a file for reading and writing, and makes it if it is not there.
func (k disk) openPartial(path string) (*os.File, error) {
	if err := k.try("open", path); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
}

func (k disk) writeAt(f *os.File, p []byte, offset int64) (int, error) {
	if err := k.try("write", f.Name()); err != nil {
		return 0, err
	}
	return f.WriteAt(p, offset)
}

func (k disk) truncate(f *os.File, size int64) error {
	if err := k.try("truncate", f.Name()); err != nil {
		return err
	}
	return f.Truncate(size)
}

func (k disk) sync(f *os.File) error {
	if err := k.try("fsync", f.Name()); err != nil {
		return err
	}
	return f.Sync()
}

func (k disk) syncDir(dir string) error {
	if err := k.try("fsync", dir); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}

// mkdir makes a folder last; one that is there already is fine.
func (k disk) mkdir(parent, dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := k.try("mkdir", dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return k.syncDir(parent)
}

func (k disk) rename(from, to string) error {
	if err := k.try("rename", to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// remove is content when there is nothing to remove.
func (k disk) remove(path string) error {
	if err := k.try("remove", path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (k disk) setTime(path string, at int64) error {
	if err := k.try("utimes", path); err != nil {
		return err
	}
	return os.Chtimes(path, time.Unix(0, at), time.Unix(0, at))
}

// replace puts a small file in the place of another. Unless it is to last, a power cut may leave neither: whoever reads it must bear
// that.
func (k disk) replace(path string, data []byte, last bool) error {
	tmp := path + temporary
	err := k.writeNew(tmp, data, last)
	if err == nil {
		err = k.rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp) // make room again; the error says what matters
		return err
	}
	if last {
		return k.syncDir(filepath.Dir(path))
	}
	return nil
}

func (k disk) writeNew(path string, data []byte, last bool) error {
	if err := k.try("create", path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = k.writeAt(f, data, 0)
	if err == nil && last {
		err = k.sync(f)
	}
	return errors.Join(err, f.Close())
}
