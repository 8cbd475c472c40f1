package blob

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// heal puts the folder in order and counts what is in it. It reads no content: what a partial is worth is found out when its writer
// comes back.
func (s *Store) heal() error {
	for _, folder := range []string{string(oci.SHA256), string(oci.SHA512), partialFolder, quarantineFolder} {
		if err := s.disk.mkdir(s.dir, filepath.Join(s.dir, folder)); err != nil {
			return err
		}
	}
	os.Remove(filepath.Join(s.dir, scrubName+temporary)) // a crash may have left it; nothing reads it
	if err := s.healPartials(); err != nil {
		return err
	}
	for info, err := range s.All(context.Background(), oci.Digest{}) {
		if err != nil {
			return err
		}
		s.used += info.Size
		s.clock = max(s.clock, info.Used.UnixNano())
	}
	return eachFile(filepath.Join(s.dir, quarantineFolder), func(_ string, info fs.FileInfo) error {
		s.used += info.Size()
		s.quarantine += info.Size()
		return nil
	})
}

// healPartials removes what nobody can go on with: temporary files, journals without bytes, bytes without a journal, and what was
// committed just before the end.
func (s *Store) healPartials() error {
	folder := filepath.Join(s.dir, partialFolder)
	return eachFile(folder, func(name string, info fs.FileInfo) error {
		plain, isJournal := strings.CutSuffix(name, journalSuffix)
		d, ok := parseFileName(plain)
		if ok {
			if _, err := os.Stat(s.path(d)); err == nil {
				ok = false
			}
		}
		other := filepath.Join(folder, plain)
		if !isJournal {
			other += journalSuffix
		}
		if _, err := os.Stat(other); err != nil {
			ok = false
		}
		if !ok {
			s.log.Info("removed what is left of an unfinished write", "name", name)
			return s.disk.remove(filepath.Join(folder, name))
		}
		if !isJournal {
			s.used += info.Size()
		}
		return nil
	})
}

// eachFile calls f for each file of a folder; a file that goes meanwhile is left out.
func eachFile(folder string, f func(name string, info fs.FileInfo) error) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if err == nil {
			err = f(entry.Name(), info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func parseFileName(name string) (oci.Digest, bool) {
	algorithm, sum, _ := strings.Cut(name, "-")
	d, err := oci.ParseDigest(algorithm + ":" + sum)
	return d, err == nil
}

// All yields the blobs that are whole, in the order of their digests, beginning after one; the zero digest begins at the beginning.
// What is not a blob is passed over.
func (s *Store) All(ctx context.Context, after oci.Digest) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		for _, a := range []oci.Algorithm{oci.SHA256, oci.SHA512} {
			if cmp.Compare(a, after.Algorithm()) < 0 {
				continue
			}
			shards, err := os.ReadDir(filepath.Join(s.dir, string(a)))
			if err != nil {
				yield(Info{}, err)
				return
			}
			for _, folder := range shards {
				if a == after.Algorithm() && folder.Name() < shard(after) || !folder.IsDir() {
					continue
				}
				if err := ctx.Err(); err != nil {
					yield(Info{}, err)
					return
				}
				if !s.allOf(a, folder.Name(), after, yield) {
					return
				}
			}
		}
	}
}

// errStop ends a walk whose reader wants no more.
var errStop = errors.New("stop")

func (s *Store) allOf(a oci.Algorithm, folder string, after oci.Digest, yield func(Info, error) bool) bool {
	err := eachFile(filepath.Join(s.dir, string(a), folder), func(name string, info fs.FileInfo) error {
		d, err := oci.ParseDigest(string(a) + ":" + name)
		if err != nil || shard(d) != folder || a == after.Algorithm() && name <= after.Hex() {
			return nil
		}
		if !yield(s.info(d, info), nil) {
			return errStop
		}
		return nil
	})
	switch {
	case errors.Is(err, errStop):
		return false
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return yield(Info{}, err)
	}
	return true
}
