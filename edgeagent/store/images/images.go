// Package images keeps, through power cuts, what the mirror learned of repositories: what tags led to, who may read what, which digest
// belongs to which repository, and what refers to it. It is a database of its own: losing it makes a node that is cut off refuse more
// than it has to, and takes neither trust nor plan with it. The blobs themselves are files, see edgeagent/mirror/blob.
package images

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/registry"
	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
)

// Names of the files.
const (
	fileName    = "images.db"
	damagedName = "images.db.damaged"
)

// maxBytes bounds the file. The tags, links and decisions of some hundred thousand images fit.
const maxBytes = 64 << 20

// What can be wrong. Match with errors.Is.
var (
	// ErrInUse: another process has the file open.
	ErrInUse = bolt.ErrInUse
	// ErrDamaged: the file is not what was written. The next Open makes it anew from what can be proved.
	ErrDamaged = bolt.ErrDamaged
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store of images is closed")
	// ErrFull: the file is as large as it may get. Prune makes room.
	ErrFull = errors.New("the store of images is full")
)

var _ registry.Meta = (*Store)(nil)

// Store is an open database. Its methods may be called from many goroutines.
type Store struct {
	path string
	log  *slog.Logger
	db   *bbolt.DB

	writing sync.Mutex // held while the disk is written

	mu    sync.Mutex // guards queue
	queue []*change
}

// change is a record to be written, or deleted if value is nil.
type change struct {
	bucket, key, value []byte
	err                error // guarded by Store.writing
}

// Open opens the database in dir, or makes it. One that is damaged is set aside as images.db.damaged, and what of it can be proved whole
// is kept. log may be nil.
func Open(dir string, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Store{path: filepath.Join(dir, fileName), log: log}
	err := s.open()
	if errors.Is(err, ErrDamaged) {
		if err = s.mend(err); err == nil {
			err = s.open()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", s.path, err)
	}
	return s, nil
}

func (s *Store) open() error {
	if !bolt.Exists(s.path) {
		if err := bolt.Create(s.path, fill(nil), nil); err != nil {
			return err
		}
	}
	if err := bolt.Check(s.path); err != nil {
		return err
	}
	// The map is as long as the file may get, so that a growing file never waits until nobody reads.
	db, err := bolt.Open(s.path, bbolt.Options{InitialMmapSize: maxBytes, MaxSize: maxBytes})
	if err != nil {
		return err
	}
	db.AllocSize = 256 << 10
	err = bolt.Guard(func() error {
		return db.View(func(tx *bbolt.Tx) error {
			for _, name := range buckets {
				if tx.Bucket(name) == nil {
					return fmt.Errorf("%w: it has no %s", ErrDamaged, name)
				}
			}
			return nil
		})
	})
	if err != nil {
		return errors.Join(err, bolt.Guard(db.Close))
	}
	s.db = db
	return nil
}

// fill makes all buckets, and puts records into them.
func fill(records []change) func(*bbolt.DB) error {
	return func(db *bbolt.DB) error {
		return db.Update(func(tx *bbolt.Tx) error {
			for _, name := range buckets {
				if _, err := tx.CreateBucketIfNotExists(name); err != nil {
					return err
				}
			}
			for _, r := range records {
				if err := tx.Bucket(r.bucket).Put(r.key, r.value); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// mend makes a damaged file anew from the records that prove themselves.
func (s *Store) mend(why error) error {
	var kept []change
	_, err := bolt.Salvage(s.path, func(r bolt.Record) error {
		if r.Nested == nil && isBucket(r.Bucket) {
			if _, whole := unseal([]byte(r.Bucket), r.Key, r.Value); whole {
				kept = append(kept, change{bucket: []byte(r.Bucket), key: bytes.Clone(r.Key), value: bytes.Clone(r.Value)})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	aside := filepath.Join(filepath.Dir(s.path), damagedName)
	os.Remove(aside) // one that was set aside earlier: its room is worth more
	if err := os.Link(s.path, aside); err != nil {
		s.log.Warn("the damaged store of images cannot be kept for a look", "error", err)
	}
	if err := bolt.Create(s.path, fill(kept), nil); err != nil {
		return fmt.Errorf("make it anew: %w", err)
	}
	s.log.Warn("the store of images was damaged and made anew; while cut off, tags and private images that were lost are not served", "error", why, "kept", len(kept), "setAside", aside)
	return nil
}

// Close closes the database. It may be called twice.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := bolt.Guard(s.db.Close); err != nil {
		return fmt.Errorf("close %s: %w", s.path, err)
	}
	return nil
}

// write makes one record last. Calls that come while the disk is busy share the next flush; a record that is there already costs none.
func (s *Store) write(c *change) error {
	s.mu.Lock()
	s.queue = append(s.queue, c)
	s.mu.Unlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	batch := s.queue
	s.queue = nil
	s.mu.Unlock()
	if len(batch) > 0 { // else another call has written ours
		err := s.commit(batch)
		for _, c := range batch {
			c.err = err
		}
	}
	if c.err != nil {
		return fmt.Errorf("write %s: %w", s.path, c.err)
	}
	return nil
}

// errSame ends a transaction that changes nothing, without a flush.
var errSame = errors.New("nothing changes")

func (s *Store) commit(batch []*change) error {
	err := bolt.Guard(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			same := true
			for _, c := range batch {
				b := tx.Bucket(c.bucket)
				before := b.Get(c.key)
				if c.value == nil && before == nil || c.value != nil && bytes.Equal(before, c.value) {
					continue
				}
				same = false
				var err error
				if c.value == nil {
					err = b.Delete(c.key)
				} else {
					err = b.Put(c.key, c.value)
				}
				if err != nil {
					return err
				}
			}
			if same {
				return errSame
			}
			return nil
		})
	})
	if errors.Is(err, errSame) {
		return nil
	}
	return known(err)
}

// view reads.
func (s *Store) view(f func(tx *bbolt.Tx) error) error {
	if err := known(bolt.Guard(func() error { return s.db.View(f) })); err != nil {
		return fmt.Errorf("read %s: %w", s.path, err)
	}
	return nil
}

// known turns the database's errors into ours.
func known(err error) error {
	switch {
	case errors.Is(err, berrors.ErrDatabaseNotOpen):
		return ErrClosed
	case errors.Is(err, berrors.ErrMaxSizeReached):
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
