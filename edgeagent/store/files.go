package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

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
