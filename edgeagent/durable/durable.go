// Package durable writes files that survive a power cut: whoever reads one finds the old file or the new one, never a part, and what
// was written before a call returned is there after it. Every part of the agent that keeps something on disk outside a database needs
// exactly this.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// WriteFile makes a file appear whole or not at all: temporary file, fsync, rename, fsync of the folder. Only its owner may read it.
// After an error the old file, if there was one, is unchanged.
func WriteFile(path string, data []byte) error {
	tmp := path + ".tmp"
	if err := writeTemp(tmp, data); err != nil {
		os.Remove(tmp) // make room again; the error says what matters
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

func writeTemp(tmp string, data []byte) error {
	os.Remove(tmp) // one left behind could be readable by others
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// SyncDir makes last what happened to the names in a folder: files made, renamed or removed.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
