package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"go.etcd.io/bbolt"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

// Read gives what is stored without taking the file from anyone; ErrInUse if an agent runs. If state.db is damaged it is
// left alone and the copy is given, with the damage as an error beside it.
func Read(dir string) (Contents, error) {
	if !enrolled(dir) {
		return Contents{}, notEnrolled(dir)
	}
	lock, err := flock(dir, syscall.LOCK_SH)
	if err != nil {
		return Contents{}, err
	}
	defer lock.Release()
	return readLocked(dir)
}

// ReadLocked is Read for a caller that holds the folder's Lock.
func ReadLocked(dir string, _ *Lock) (Contents, error) {
	if !enrolled(dir) {
		return Contents{}, notEnrolled(dir)
	}
	return readLocked(dir)
}

func readLocked(dir string) (Contents, error) {
	path := filepath.Join(dir, fileName)
	c, err := read(path)
	if err == nil {
		return c, nil
	}
	err = fmt.Errorf("open %s: %w", path, err)
	if !errors.Is(err, ErrDamaged) && !errors.Is(err, os.ErrNotExist) {
		return Contents{}, err
	}
	state, copyErr := readCopy(dir)
	return Contents{State: state}, errors.Join(err, copyErr)
}

func read(path string) (Contents, error) {
	db, err := bolt.Open(path, bbolt.Options{ReadOnly: true})
	if err != nil {
		return Contents{}, err
	}
	c, err := load(db)
	return c, errors.Join(err, bolt.Guard(db.Close))
}

// Remove forgets the enrolment: the copy first, so that a crash in between leaves an enrolled node rather than one that
// comes back from its copy. The caller holds the folder's Lock.
func Remove(dir string) error {
	for _, name := range []string{copyName, copyName + ".tmp", damagedName, fileName + ".tmp", fileName, lockName} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return durable.SyncDir(dir)
}
