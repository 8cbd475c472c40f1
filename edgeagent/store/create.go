package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-dev/holdfast/policy/verify"
	"go.etcd.io/bbolt"
)

// Create makes the state of a newly enrolled node. It appears whole or not at all. An existing one is an error. The caller
// holds the folder's Lock.
func Create(dir string, e Enrolment, trust verify.State) error {
	path := filepath.Join(dir, fileName)
	if exists(path) {
		return fmt.Errorf("%s is there already: this node is enrolled", path)
	}
	return create(dir, State{Enrolment: e, Trust: trust})
}

// create writes state.db, whole or not at all, then its copy.
func create(dir string, s State) error {
	path := filepath.Join(dir, fileName)
	tmp := path + ".tmp"
	os.Remove(tmp) // left behind by a crash
	err := guard(func() error { return fill(tmp, s) })
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return writeError(path, err)
	}
	if err := syncDir(dir); err != nil {
		return writeError(path, err)
	}
	return writeCopy(dir, s)
}

// fill makes a database with one record. bbolt's own first writing is not safe against power cuts: its caller renames.
func fill(path string, s State) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout})
	if err != nil {
		return err
	}
	err = put(db, nil, keyState, s)
	return errors.Join(err, db.Sync(), db.Close())
}

func put(db *bbolt.DB, step Step, key string, v any) error {
	raw, err := encode(key, v)
	if err != nil {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucket))
		if err != nil {
			return err
		}
		if err := b.Put([]byte(key), raw); err != nil {
			return err
		}
		if step != nil {
			step("committing")
		}
		return nil
	})
}

func writeCopy(dir string, s State) error {
	path := filepath.Join(dir, copyName)
	raw, err := encode(keyState, s)
	if err != nil {
		return err
	}
	return writeError(path, writeFile(path, raw))
}
