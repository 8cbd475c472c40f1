package kubelet

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
)

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// replace puts a file in place of another so that it is whole after a power cut. It gets the owner of like, if there is one.
func replace(path string, data []byte, like fs.FileInfo, mode fs.FileMode) error {
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
	return durable.SyncDir(filepath.Dir(path))
}

// setAside keeps the file itself under another name, with all that belongs to it, until something takes its place.
func setAside(path string) error {
	err := os.Link(path, path+aside)
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
		return replace(path+aside, raw, info, info.Mode().Perm())
	}
	if err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// putBack renames what was set aside. Nothing to put back is no error.
func putBack(path string) error {
	err := os.Rename(path+aside, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("put %s back: %w", path, err)
	}
	return durable.SyncDir(filepath.Dir(path))
}

func removeAside(path string) error {
	if err := os.Remove(path + aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}
