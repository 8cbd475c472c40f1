package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// bucket holds the records; their keys:
const (
	bucket      = "holdfast"
	keyState    = "state"
	keyRejected = "rejected"
	keyReport   = "report"
)

// lockTimeout keeps bbolt from waiting for ever for its own lock; Lock has been taken before.
const lockTimeout = 200 * time.Millisecond

// guard runs f and turns what a damaged file does to bbolt (panics, and faults in its memory map) into ErrDamaged. The
// process would die of them otherwise.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	return f()
}

// openDB opens the file after looking at what bbolt would believe without checking.
func openDB(path string, readOnly bool) (db *bbolt.DB, err error) {
	if err := probe(path); err != nil {
		return nil, err
	}
	err = guard(func() error {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, ReadOnly: readOnly})
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

// load reads and checks every record, then the structure of the file.
func load(db *bbolt.DB) (c Contents, err error) {
	err = guard(func() error {
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

// bbolt's file format, as far as probe needs it: a page starts with id (8 bytes), flags (2), count (2) and overflow (4).
const (
	pageHeader   = 16
	metaSize     = 64
	metaMagic    = 0xED0CDAED
	flagFreelist = 0x10
	noFreelist   = ^uint64(0)
)

// probe checks, without a memory map, what opening relies on: a meta page with a right checksum, a file that is as long as
// it says, and a free list that lies within it.
func probe(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := uint64(os.Getpagesize())
	m, ok := newestMeta(f, size)
	if !ok {
		return fmt.Errorf("%w: neither of its two heads can be read", ErrDamaged)
	}
	length := uint64(info.Size())
	if m.pages > length/size {
		return fmt.Errorf("%w: cut short at %d of %d bytes", ErrDamaged, length, m.pages*size)
	}
	if m.freelist == noFreelist {
		return nil
	}
	var h [pageHeader]byte
	if m.freelist >= m.pages {
		return fmt.Errorf("%w: its free list is not in it", ErrDamaged)
	}
	if _, err := f.ReadAt(h[:], int64(m.freelist*size)); err != nil {
		return err
	}
	count, overflow := uint64(binary.NativeEndian.Uint16(h[10:])), uint64(binary.NativeEndian.Uint32(h[12:]))
	if binary.NativeEndian.Uint16(h[8:])&flagFreelist == 0 || m.freelist+overflow >= m.pages || pageHeader+8*count > (overflow+1)*size {
		return fmt.Errorf("%w: its free list cannot be read", ErrDamaged)
	}
	return nil
}

type meta struct{ freelist, pages, tx uint64 }

func newestMeta(f io.ReaderAt, size uint64) (newest meta, ok bool) {
	for i := range uint64(2) {
		var b [metaSize]byte
		if _, err := f.ReadAt(b[:], int64(i*size+pageHeader)); err != nil {
			continue
		}
		sum := fnv.New64a()
		sum.Write(b[:metaSize-8])
		if binary.NativeEndian.Uint32(b[0:]) != metaMagic || binary.NativeEndian.Uint64(b[56:]) != sum.Sum64() {
			continue
		}
		m := meta{freelist: binary.NativeEndian.Uint64(b[32:]), pages: binary.NativeEndian.Uint64(b[40:]), tx: binary.NativeEndian.Uint64(b[48:])}
		if !ok || m.tx > newest.tx {
			newest, ok = m, true
		}
	}
	return newest, ok
}
