package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Replace puts a file that is not ours in place of another, so that it is whole after a power cut. It gets the owner of like, if there
// is one, and the mode.
func Replace(path string, data []byte, like fs.FileInfo, mode fs.FileMode) error {
	tmp := path + ".holdfast-tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if like != nil {
		if owner, ok := like.Sys().(*syscall.Stat_t); ok {
			err = f.Chown(int(owner.Uid), int(owner.Gid))
		}
	}
	_, writeErr := f.Write(data)
	if err := errors.Join(err, f.Chmod(mode), writeErr, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return SyncDir(filepath.Dir(path))
}

// SetAside keeps the file itself under another name in its folder, with all that belongs to it, until something takes its place. What
// has that name already stays.
func SetAside(path, aside string) error {
	err := os.Link(path, aside)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EOPNOTSUPP) { // a file system without hard links
		info, statErr := os.Stat(path)
		if statErr != nil {
			return statErr
		}
		raw, readErr := os.ReadFile(path)
		if readErr != nil {
			return readErr
		}
		return Replace(aside, raw, info, info.Mode().Perm())
	}
	if err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}
