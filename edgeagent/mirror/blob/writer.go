package blob

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"os"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// Writer takes the bytes of one blob, in order. It is used by one goroutine at a time; Abandon and Discard may come from another.
// Every writer is ended, by Commit, Abandon or Discard; one that failed by itself may be ended again.
type Writer struct {
	s      *Store
	digest oci.Digest
	growth growth // what readers see
	begun  bool   // readers may follow; guarded by Store.mu

	mu       sync.Mutex // guards all below; taken before Store.mu
	ended    error      // why it takes nothing more; nil while it does
	f        *os.File
	hash     hash.Hash
	offset   int64 // bytes written and hashed
	size     int64 // of the whole blob, or -1
	reserved int64 // room that was promised and is not used
	cut      bool  // see journal.Cut
	verified bool  // all bytes are here, and they are what the digest says

	durable   int64 // bytes that were flushed and that the journal on disk counts on
	tried     int64 // bytes that the last checkpoint was about, whether it went well or not
	journaled bool  // there is a journal
	since     time.Time
	pending   *checkpoint // being flushed
}

// Writer begins a blob, or goes on where an earlier writer, a kill or a power cut left it: see Offset. ErrExists if there is nothing to
// write, ErrBusy if another writer is at it.
func (s *Store) Writer(d oci.Digest) (*Writer, error) {
	if d.IsZero() {
		return nil, errors.New("write blob: no digest")
	}
	w := &Writer{s: s, digest: d, size: -1, since: time.Now()}
	w.growth.size = -1
	w.mu.Lock() // whoever ends it, such as Close, waits until it has begun
	defer w.mu.Unlock()
	if err := s.enter(w); err != nil {
		return nil, fmt.Errorf("write %s: %w", d, err)
	}
	if err := w.resume(); err != nil {
		err = fmt.Errorf("write %s: %w", d, diskError(err))
		w.end(err)
		return nil, err
	}
	s.mu.Lock()
	w.begun = true
	s.mu.Unlock()
	return w, nil
}

// enter makes w the blob's only writer.
func (s *Store) enter(w *Writer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.writers[w.digest] != nil {
		return ErrBusy
	}
	if info, err := os.Stat(s.path(w.digest)); err == nil && info.Mode().IsRegular() {
		return ErrExists
	}
	s.writers[w.digest] = w
	return nil
}

// Digest is what is being written.
func (w *Writer) Digest() oci.Digest { return w.digest }

// Offset is how many bytes are there: the next one to write, and to ask the source for.
func (w *Writer) Offset() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.offset
}

// Size is the blob's size, or -1 while nobody said.
func (w *Writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

// Expect says how large the blob is, before more of it is asked for, and makes room for it: what nothing needs is collected. A
// RoomError (ErrNoRoom, ErrNeverFits) says that there is none; ErrSize that another size was said before, and that one stays.
func (w *Writer) Expect(ctx context.Context, size int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended != nil {
		return w.ended
	}
	if size < 0 || w.size >= 0 && size != w.size || size < w.offset {
		return fmt.Errorf("write %s: %d bytes, %d of them here: %w: %d", w.digest, size, w.offset, ErrSize, w.size)
	}
	need := size - w.offset - w.reserved
	if err := w.s.reserve(ctx, w.digest, size, need); err != nil {
		return fmt.Errorf("write blob: %w", err)
	}
	w.reserved += need
	w.size = size
	if w.offset == size {
		if err := w.verify(); err != nil {
			return err
		}
	}
	w.growth.expect(size)
	return nil
}

// Write appends. Readers that follow see the bytes at once, but for the last ones: these they see once all are what the digest says.
// After ErrNoRoom the writer can go on when there is room; after a MismatchError it has ended.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended != nil {
		return 0, w.ended
	}
	// A disk slower than the link holds the link back, or a power cut would cost ever more.
	if err := w.collectCheckpoint(w.pending != nil && w.offset-w.pending.offset >= w.s.checkpointBytes); err != nil {
		return 0, err
	}
	if w.verified && len(p) > 0 {
		return 0, fmt.Errorf("write %s: %d bytes more than its %d: %w", w.digest, len(p), w.size, ErrSize)
	}
	if w.size >= 0 && int64(len(p)) > w.size-w.offset {
		return 0, w.reject(&MismatchError{Digest: w.digest, Size: w.size, GotSize: w.offset + int64(len(p))})
	}
	if err := w.take(int64(len(p))); err != nil {
		return 0, err
	}
	n, err := w.s.disk.writeAt(w.f, p, w.offset)
	w.hash.Write(p[:n]) // a hash never fails
	w.offset += int64(n)
	w.giveBack(int64(len(p) - n))
	if err != nil {
		err = fmt.Errorf("write %s: %w", w.digest, diskError(err))
	} else if w.offset == w.size {
		err = w.verify()
	}
	if w.ended != nil {
		return n, err
	}
	w.growth.grow(w.offset)
	w.keep()
	return n, err
}

// take counts bytes that are about to be written. Those that nobody promised room for, as no size is known, are checked here.
func (w *Writer) take(n int64) error {
	promised := min(n, w.reserved)
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if extra := n - promised; extra > 0 {
		if short, err := s.short(extra); err != nil || short > 0 {
			if err == nil {
				err = &RoomError{Digest: w.digest, Need: extra, Short: short, Quota: s.budget.Quota, Reserve: s.budget.Reserve}
			}
			return fmt.Errorf("write blob: %w", err)
		}
	}
	w.reserved -= promised
	s.reserved -= promised
	s.used += n
	return nil
}

// giveBack undoes a part of take: bytes that could not be written.
func (w *Writer) giveBack(n int64) {
	if n == 0 {
		return
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.used -= n
	if w.size >= 0 {
		w.reserved += n
		w.s.reserved += n
	}
}
