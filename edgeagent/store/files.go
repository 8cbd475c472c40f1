package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// writeFile makes a file appear whole or not at all, also when power goes: temporary file, fsync, rename, fsync of the
// folder.
func writeFile(path string, data []byte) error {
	tmp := path + ".tmp"
	if err := writeTemp(tmp, data); err != nil {
		os.Remove(tmp) // make room again; the error says what matters
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func writeTemp(tmp string, data []byte) error {
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// readCopy reads the copy of the state record.
func readCopy(dir string) (State, error) {
	path := filepath.Join(dir, copyName)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, fmt.Errorf("%s: %w: it is not there", path, ErrDamaged)
	}
	if err != nil {
		return State{}, err
	}
	var s State
	if err := decode(keyState, raw, &s); err != nil {
		return State{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}
