package store

import (
	"fmt"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
	"github.com/holdfast-dev/holdfast/policy/verify"
)

// Create makes the state of a newly enrolled node. It appears whole or not at all. An existing one is an error. The caller
// holds the folder's Lock.
func Create(dir string, e Enrolment, trust verify.State) error {
	path := filepath.Join(dir, fileName)
	if bolt.Exists(path) {
		return fmt.Errorf("%s is there already: this node is enrolled", path)
	}
	return create(dir, State{Enrolment: e, Trust: trust})
}

// create writes state.db, whole or not at all, then its copy.
func create(dir string, s State) error {
	path := filepath.Join(dir, fileName)
	err := bolt.Create(path, func(db *bbolt.DB) error { return put(db, nil, keyState, s) }, nil)
	if err != nil {
		return writeError(path, err)
	}
	return writeCopy(dir, s)
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
	return writeError(path, durable.WriteFile(path, raw))
}
