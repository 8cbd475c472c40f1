package bolt

import (
	"errors"
	"os"
	"path/filepath"
)

// WriteFile makes a file appear whole or not at all, also when power goes: temporary file, fsync, rename, fsync of the
// folder. Only its owner may read it.
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

// SyncDir makes a rename in dir last.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Exists tells whether there is a file at path.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
