package kubelet

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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

func replace(path string, data []byte, like fs.FileInfo, mode fs.FileMode) error {
	return durable.Replace(path, data, like, mode)
}

func setAside(path string) error { return durable.SetAside(path, path+aside) }

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
