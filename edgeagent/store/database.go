package store

import (
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

// bucket holds the records; their keys:
const (
	bucket      = "holdfast"
	keyState    = "state"
	keyRejected = "rejected"
	keyReport   = "report"
)

// load reads and checks every record, then the structure of the file.
func load(db *bbolt.DB) (c Contents, err error) {
	err = bolt.Guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte(bucket))
			if b == nil {
				return fmt.Errorf("%w: it holds no records", ErrDamaged)
			}
			into := map[string]any{keyState: &c.State, keyRejected: &c.Rejected, keyReport: &c.Report}
			seen := map[string]bool{}
			err := b.ForEach(func(k, v []byte) error {
				target, known := into[string(k)]
				if !known {
					return nil // a newer version's; left alone
				}
				seen[string(k)] = true
				return decode(string(k), v, target)
			})
			if err != nil {
				return err
			}
			if !seen[keyState] {
				return fmt.Errorf("%w: it holds no state", ErrDamaged)
			}
			// Everything reachable has just been read, so this finds what is left: a free list that would have live
			// pages overwritten.
			var first error
			for err := range tx.Check() { // to the end: it has a goroutine of its own
				if first == nil {
					first = fmt.Errorf("%w: %w", ErrDamaged, err)
				}
			}
			return first
		})
	})
	return c, err
}
