// Package bolt is what the node's two bbolt files have in common: a damaged file must become an error, and a new one must
// appear whole or not at all. bbolt promises neither: it panics or faults, and its first writing does not survive a power cut.
package bolt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
)

// What can be wrong. Match with errors.Is.
var (
	// ErrInUse: another process has the file open.
	ErrInUse = errors.New("in use by another process")
	// ErrDamaged: the file is not what was written.
	ErrDamaged = errors.New("damaged")
)

// LockTimeout keeps bbolt from waiting for ever for its own lock.
const LockTimeout = 200 * time.Millisecond

// Guard runs f and turns what a damaged file does to bbolt (panics, and faults in its memory map) into ErrDamaged. The
// process would die of them otherwise. It reaches no goroutine that f starts.
func Guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	return f()
}

// GuardFaults is Guard for code that is not ours: only faults become errors, other panics stay what they are.
func GuardFaults(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		if fault, ok := r.(interface{ Addr() uintptr }); ok {
			err = fmt.Errorf("%w: it cannot be read any more: %v (at %#x)", ErrDamaged, r, fault.Addr())
			return
		}
		panic(r)
	}()
	return f()
}

// Open opens the file after looking at what bbolt would believe without checking. An error wraps ErrDamaged or ErrInUse where
// that is what is wrong.
func Open(path string, o bbolt.Options) (db *bbolt.DB, err error) {
	if err := Probe(path); err != nil {
		return nil, err
	}
	o.Timeout = LockTimeout
	err = Guard(func() error {
		db, err = bbolt.Open(path, 0o600, &o)
		switch {
		case errors.Is(err, berrors.ErrTimeout):
			return ErrInUse
		case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum), errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return err
	})
	return db, err
}

// Create makes a file that appears whole or not at all: fill writes it under another name, it is flushed, then renamed. step,
// which may be nil, is told "filled" and "renamed". One that is there already is replaced.
func Create(path string, fill func(*bbolt.DB) error, step func(point string)) error {
	if step == nil {
		step = func(string) {}
	}
	tmp := path + ".tmp"
	os.Remove(tmp) // left behind by a crash
	err := Guard(func() error {
		db, err := bbolt.Open(tmp, 0o600, &bbolt.Options{Timeout: LockTimeout})
		if err != nil {
			return err
		}
		err = fill(db)
		return errors.Join(err, db.Sync(), db.Close())
	})
	if err == nil {
		step("filled")
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	step("renamed")
	return durable.SyncDir(filepath.Dir(path))
}
