package blob

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// setAside moves a file into quarantine, and keeps that within its bounds: the newest evidence stays. One file larger than that is
// deleted.
func (s *Store) setAside(path string, d oci.Digest, size int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if size > s.quarantineLimit {
		err := s.disk.remove(path)
		if err == nil {
			s.used -= size
		}
		return err
	}
	to := filepath.Join(s.dir, quarantineFolder, fileName(d))
	before := fileSize(to)
	if err := s.disk.rename(path, to); err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	s.quarantine += size - before
	s.used -= before
	return s.trim(to)
}

// trim deletes the oldest files in quarantine, but not the one that has just come. s.mu is held.
func (s *Store) trim(newest string) error {
	type file struct {
		path     string
		size, at int64
	}
	var files []file
	err := eachFile(filepath.Join(s.dir, quarantineFolder), func(name string, info fs.FileInfo) error {
		if path := filepath.Join(s.dir, quarantineFolder, name); path != newest {
			files = append(files, file{path, info.Size(), info.ModTime().UnixNano()})
		}
		return nil
	})
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.at, b.at) })
	for _, f := range files {
		if err != nil || s.quarantine <= s.quarantineLimit {
			break
		}
		if err = s.disk.remove(f.path); err == nil {
			s.quarantine -= f.size
			s.used -= f.size
		}
	}
	return err
}

// condemn takes a blob that is damaged out of the store, if it still is the file that was read. Who reads it now reads on.
func (s *Store) condemn(f *os.File, d, got oci.Digest, why error) error {
	err := error(&CorruptError{Digest: d, Got: got, Err: why})
	read, readErr := f.Stat()
	now, nowErr := os.Stat(s.path(d))
	if readErr != nil || nowErr != nil || !os.SameFile(read, now) {
		return err // it has been replaced already
	}
	if asideErr := s.setAside(s.path(d), d, now.Size()); asideErr != nil {
		err = errors.Join(err, diskError(asideErr))
	}
	s.log.Warn("a blob is damaged", "digest", d, "error", err)
	return err
}
