package blob

import (
	"errors"
	"io/fs"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// tick is a time later than any before it, whatever the clock says: a node may boot in 1970 and set its clock an hour later, and what
// it used meanwhile must not look old. s.mu is held.
func (s *Store) tick() int64 {
	s.clock = max(time.Now().UnixNano(), s.clock+1)
	return s.clock
}

// touch remembers that a blob was asked for. s.mu is held.
func (s *Store) touch(d oci.Digest) {
	s.touched[d] = s.tick()
	if len(s.touched) < touchedMost && time.Since(s.flushed) < flushEvery {
		return
	}
	if err := s.flush(); err != nil {
		s.log.Warn("times of blobs cannot be written; which were used last is forgotten at the next start", "error", err)
	}
}

// flush writes the times of files, without fsync: what a power cut takes of them is only a worse guess of what to delete first.
// s.mu is held.
func (s *Store) flush() error {
	var errs []error
	for d, at := range s.touched {
		if err := s.disk.setTime(s.path(d), at); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	clear(s.touched)
	s.flushed = time.Now()
	return errors.Join(errs...)
}
