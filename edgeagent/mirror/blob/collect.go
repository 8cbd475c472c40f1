package blob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// Collected is what a collection deleted.
type Collected struct {
	Files int
	Bytes int64
}

// short is how many bytes are missing for n more. s.mu is held.
func (s *Store) short(n int64) (int64, error) {
	free, err := s.free()
	if err != nil {
		return 0, fmt.Errorf("ask for free space: %w", err)
	}
	short := max(0, s.budget.Reserve+s.reserved+n-free)
	if s.budget.Quota > 0 {
		short = max(short, s.used+s.reserved+n-s.budget.Quota)
	}
	return short, nil
}

// reserve promises room for the rest of a blob, after a collection if that is needed. Another writer may take what was collected, so
// it is tried a few times.
func (s *Store) reserve(ctx context.Context, d oci.Digest, size, need int64) error {
	for range 3 {
		s.mu.Lock()
		b := s.budget
		if b.Quota > 0 && size > b.Quota {
			s.mu.Unlock()
			return &RoomError{Digest: d, Need: size, Short: size - b.Quota, Quota: b.Quota, Reserve: b.Reserve, never: true}
		}
		short, err := s.short(need)
		if err == nil && short == 0 {
			s.reserved += need
		}
		s.mu.Unlock()
		if err != nil || short == 0 {
			return err
		}
		if _, err := s.Collect(ctx, need); err != nil {
			var room *RoomError
			if errors.As(err, &room) {
				room.Digest = d
			}
			return err
		}
	}
	return fmt.Errorf("%w for %d bytes of %s: others take it faster than it can be made", ErrNoRoom, need, d)
}

// garbage is a file that may go.
type garbage struct {
	digest oci.Digest
	path   string
	size   int64
	used   int64 // when it was last asked for
	blob   bool  // a whole one, or one in quarantine or partial
}

// Collect makes room for need more bytes, within the budget, and deletes no more than that takes: what is in quarantine first, then
// what was not asked for for longest. Roots stay, and what is pinned, read or written. A RoomError says that this is not enough; what
// could go is gone then.
func (s *Store) Collect(ctx context.Context, need int64) (Collected, error) {
	s.collecting.Lock()
	defer s.collecting.Unlock()
	s.mu.Lock()
	short, err := s.short(need)
	begun := s.tick()
	b := s.budget
	s.mu.Unlock()
	if err != nil || short == 0 {
		return Collected{}, err
	}
	candidates, err := s.candidates(ctx)
	if err != nil {
		return Collected{}, fmt.Errorf("collect garbage: %w", err)
	}
	var done Collected
	for _, c := range candidates {
		if done.Bytes >= short {
			break
		}
		deleted, err := s.drop(c, begun)
		if err != nil {
			return done, fmt.Errorf("collect garbage: %w", err)
		}
		if deleted {
			done.Files++
			done.Bytes += c.size
		}
	}
	if done.Bytes < short {
		return done, &RoomError{Need: need, Short: short - done.Bytes, Quota: b.Quota, Reserve: b.Reserve}
	}
	return done, nil
}

// candidates are all files that nothing refers to, in the order in which they go.
func (s *Store) candidates(ctx context.Context) ([]garbage, error) {
	if s.roots == nil {
		return nil, nil
	}
	roots := map[oci.Digest]struct{}{}
	for d, err := range s.roots(ctx) {
		if err != nil { // what it did not yield would be deleted
			return nil, fmt.Errorf("list what must stay: %w", err)
		}
		roots[d] = struct{}{}
	}
	var all []garbage
	for info, err := range s.All(ctx, oci.Digest{}) {
		if err != nil {
			return nil, err
		}
		if _, needed := roots[info.Digest]; !needed {
			all = append(all, garbage{info.Digest, s.path(info.Digest), info.Size, info.Used.UnixNano(), true})
		}
	}
	for _, folder := range []string{partialFolder, quarantineFolder} {
		err := eachFile(filepath.Join(s.dir, folder), func(name string, info fs.FileInfo) error {
			d, ok := parseFileName(name)
			if _, needed := roots[d]; !ok || needed && folder == partialFolder {
				return nil
			}
			used := info.ModTime().UnixNano()
			if folder == quarantineFolder {
				used = 0 // first
			}
			all = append(all, garbage{d, filepath.Join(s.dir, folder, name), info.Size(), used, false})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(all, func(a, b garbage) int {
		return cmp.Or(cmp.Compare(a.used, b.used), strings.Compare(a.path, b.path))
	})
	return all, nil
}

// drop deletes one file, unless somebody needs it after all, or has asked for it since.
func (s *Store) drop(c garbage, since int64) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	inQuarantine := filepath.Base(filepath.Dir(c.path)) == quarantineFolder
	if !inQuarantine && (s.pins[c.digest] > 0 || s.writers[c.digest] != nil || s.touched[c.digest] > since) {
		return false, nil
	}
	if !c.blob && !inQuarantine { // its journal first: bytes without one are nothing, a journal without bytes is a lie
		if err := s.disk.remove(c.path + journalSuffix); err != nil {
			return false, err
		}
	}
	if fileSize(c.path) != c.size { // it went, or became something else
		return false, nil
	}
	if err := s.disk.remove(c.path); err != nil {
		return false, err
	}
	s.used -= c.size
	if inQuarantine {
		s.quarantine -= c.size
	} else if c.blob {
		delete(s.touched, c.digest)
	}
	return true, nil
}
