package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("HOLDFAST_BLOB_CHILD"); dir != "" {
		if size := os.Getenv("HOLDFAST_BLOB_SIZE"); size != "" {
			killedDownload(dir, size)
		}
		killedChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// content is n bytes that no other seed has.
func content(seed byte, n int) ([]byte, oci.Digest) {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(data)
	return data, oci.SHA256.FromBytes(data)
}

// small has all sizes small, so that a few KiB go through every path.
func small(dir string) tuning {
	t := defaults(dir)
	t.journalFrom, t.checkpointBytes, t.quarantineLimit = 1<<10, 4<<10, 64<<10
	return t
}

func openSmall(t testing.TB, dir string, o Options, change ...func(*tuning)) *Store {
	t.Helper()
	tuned := small(dir)
	for _, f := range change {
		f(&tuned)
	}
	s, err := open(dir, o, tuned)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, s *Store, seed byte, n int) oci.Digest {
	t.Helper()
	data, d := content(seed, n)
	must(t, s.Put(d, data))
	return d
}

// wantBlob reads a blob through every way there is.
func wantBlob(t testing.TB, s *Store, d oci.Digest, want []byte) {
	t.Helper()
	r, err := s.Open(d)
	must(t, err)
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %s: %d bytes, %v; want %d", d, len(got), err, len(want))
	}
	if got, err := s.Bytes(d, 1<<30); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %s whole: %d bytes, %v", d, len(got), err)
	}
	if info, err := s.Stat(d); err != nil || info.Size != int64(len(want)) || info.Digest != d {
		t.Fatalf("stat %s: %+v, %v", d, info, err)
	}
}

func wantNone(t testing.TB, s *Store, d oci.Digest) {
	t.Helper()
	if _, err := s.Stat(d); !errors.Is(err, ErrNotFound) {
		t.Fatalf("stat %s: got %v, want ErrNotFound", d, err)
	}
	if _, err := s.Open(d); !errors.Is(err, ErrNotFound) {
		t.Fatalf("open %s: got %v, want ErrNotFound", d, err)
	}
}

// wantUsage compares what the store counts with what is there.
func wantUsage(t testing.TB, s *Store) {
	t.Helper()
	var there, aside int64
	must(t, filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		folder := filepath.Base(filepath.Dir(path))
		if filepath.Dir(path) == s.dir || folder == partialFolder && filepath.Ext(path) != "" {
			return nil // the lock, the scrub's file, journals
		}
		there += fileSize(path)
		if folder == quarantineFolder {
			aside += fileSize(path)
		}
		return nil
	}))
	if u := s.Usage(); u.Bytes != there || u.Quarantine != aside {
		t.Errorf("counted %+v, there are %d and %d in quarantine", u, there, aside)
	}
}

// inFolder lists the names in a folder of the store.
func inFolder(t testing.TB, s *Store, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, folder))
	must(t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func rootsOf(digests ...oci.Digest) func(context.Context) iter.Seq2[oci.Digest, error] {
	return func(context.Context) iter.Seq2[oci.Digest, error] {
		return func(yield func(oci.Digest, error) bool) {
			for _, d := range digests {
				if !yield(d, nil) {
					return
				}
			}
		}
	}
}

func logTo(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }
