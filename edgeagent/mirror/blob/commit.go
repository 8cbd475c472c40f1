package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// verify compares what was written with the digest, once all bytes are there. What does not match goes to quarantine, and ends the
// writer. w.mu is held.
func (w *Writer) verify() error {
	if w.verified {
		return nil
	}
	got := oci.FromHash(w.digest.Algorithm(), w.hash)
	if got == w.digest && w.cut {
		h := w.digest.Algorithm().New()
		if _, err := io.Copy(h, io.NewSectionReader(w.f, 0, w.offset)); err != nil {
			return fmt.Errorf("write %s: read it again: %w", w.digest, err)
		}
		got = oci.FromHash(w.digest.Algorithm(), h)
	}
	if got != w.digest {
		return w.reject(&MismatchError{Digest: w.digest, Got: got, Size: w.size, GotSize: w.offset})
	}
	w.verified = true
	return nil
}

// reject ends a writer whose bytes are wrong. w.mu is held.
func (w *Writer) reject(why *MismatchError) error {
	w.awaitCheckpoint()
	path := w.s.partialPath(w.digest)
	err := w.s.disk.remove(path + journalSuffix)
	if err == nil { // with it, the next writer would believe the bytes
		err = w.s.setAside(path, w.digest, w.offset)
	}
	result := fmt.Errorf("write blob: %w", errors.Join(why, err))
	w.end(result)
	return result
}

// Commit makes the blob a part of the store, to last: two flushes, of the file and of the folder. ErrIncomplete if bytes are missing;
// a MismatchError if they are wrong. After any other error nothing is lost, and Commit may be tried again.
func (w *Writer) Commit() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended != nil {
		return w.ended
	}
	if err := w.collectCheckpoint(true); err != nil {
		return err
	}
	if w.offset < w.size {
		return fmt.Errorf("write %s: %d of %d bytes: %w", w.digest, w.offset, w.size, ErrIncomplete)
	}
	if err := w.verify(); err != nil {
		return err
	}
	if err := w.store(); err != nil {
		return fmt.Errorf("write %s: %w", w.digest, diskError(err))
	}
	if err := w.s.disk.remove(w.s.partialPath(w.digest) + journalSuffix); err != nil {
		w.s.log.Warn("the journal of a finished blob stays until the next start", "digest", w.digest, "error", err)
	}
	w.size = w.offset
	w.growth.grow(w.offset)
	w.growth.expect(w.offset)
	w.end(nil)
	return nil
}

// store flushes the file and gives it its name. w.mu is held.
func (w *Writer) store() error {
	s := w.s
	partial, final := s.partialPath(w.digest), s.path(w.digest)
	s.mu.Lock()
	at := s.tick()
	s.mu.Unlock()
	if err := s.disk.setTime(partial, at); err != nil {
		return err
	}
	if err := s.disk.sync(w.f); err != nil {
		return w.rollBack(err)
	}
	folder := filepath.Dir(final)
	if err := s.disk.mkdir(filepath.Dir(folder), folder); err != nil {
		return err
	}
	if err := s.move(partial, final); err != nil {
		return err
	}
	err := s.disk.syncDir(folder)
	if err == nil {
		return nil
	}
	// It would not last, so it must not be there.
	if back := s.move(final, partial); back != nil {
		err = errors.Join(err, back)
		w.end(err)
	}
	return err
}

// move renames while no reader is between looking for a file and opening it.
func (s *Store) move(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.disk.rename(from, to)
}

// rollBack ends a writer whose file could not be flushed. What the kernel still shows of it may never reach the disk, so only what
// was flushed before stays. w.mu is held.
func (w *Writer) rollBack(err error) error {
	err = fmt.Errorf("flush %s: %w", w.digest, diskError(err))
	if w.durable == 0 {
		err = errors.Join(err, w.discardFiles())
	} else if truncateErr := w.s.disk.truncate(w.f, w.durable); truncateErr != nil {
		err = errors.Join(err, w.discardFiles())
	} else {
		w.s.count(w.durable - w.offset)
	}
	w.end(err)
	return err
}

// Abandon ends the writer and keeps what it has for the next one. Readers that follow end with why.
func (w *Writer) Abandon(why error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended != nil {
		return nil
	}
	if w.collectCheckpoint(true) != nil {
		return nil // it has ended, and says why to whoever writes
	}
	var err error
	switch {
	case w.offset < w.s.journalFrom && !w.journaled:
		err = w.discardFiles()
	case w.offset-w.durable >= w.s.journalFrom:
		w.startCheckpoint()
		if w.collectCheckpoint(true) != nil {
			return nil
		}
	}
	w.end(ended(why))
	return err
}

// Discard ends the writer and removes what it has, as with a source that turned out to send something else.
func (w *Writer) Discard(why error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended != nil {
		return nil
	}
	w.awaitCheckpoint()
	err := w.discardFiles()
	w.end(ended(why))
	return err
}

func ended(why error) error {
	if why == nil {
		return errors.New("the writer gave up")
	}
	return why
}

// end closes the writer for good: nil means that the blob is in the store. w.mu is held.
func (w *Writer) end(err error) {
	s := w.s
	s.mu.Lock()
	s.reserved -= w.reserved
	w.reserved = 0
	if s.writers[w.digest] == w {
		delete(s.writers, w.digest)
	}
	s.mu.Unlock()
	if w.f != nil {
		w.f.Close() // everything that must last was flushed
		w.f = nil
	}
	w.ended = err
	if err == nil {
		w.ended = fmt.Errorf("write %s: %w", w.digest, ErrExists)
	}
	w.growth.finish(err)
}

// Put stores a blob that is in memory, such as a manifest. One that is there already is fine.
func (s *Store) Put(d oci.Digest, data []byte) error {
	w, err := s.Writer(d)
	if errors.Is(err, ErrExists) {
		return nil
	}
	if err != nil {
		return err
	}
	err = w.put(data)
	if err != nil {
		return errors.Join(err, w.Discard(err))
	}
	return nil
}

func (w *Writer) put(data []byte) error {
	if err := w.Expect(context.Background(), int64(len(data))); err != nil {
		return err
	}
	if _, err := w.Write(data[w.Offset():]); err != nil {
		return err
	}
	return w.Commit()
}
