package blob

import (
	"crypto/sha256"
	"hash"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// pattern is n bytes of a stream that never repeats itself, without keeping them.
type pattern struct{ n, at, seed int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at == p.n {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.n-p.at)]
	for i := range b {
		b[i] = byte((p.at + int64(i) + p.seed) * 2654435761 >> 13)
	}
	p.at += int64(len(b))
	return len(b), nil
}

// stream writes blobs of a size side by side, each with a reader that follows it, and returns the most memory that was in use.
func stream(t testing.TB, s *Store, blobs int, size int64, seed int64) (peak uint64) {
	t.Helper()
	var most atomic.Uint64
	sample := func() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if used := m.HeapInuse + m.StackInuse; used > most.Load() {
			most.Store(used)
		}
	}
	var group sync.WaitGroup
	for i := range blobs {
		h := sha256.New()
		if _, err := io.CopyBuffer(struct{ io.Writer }{h}, &pattern{n: size, seed: seed + int64(i)}, make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
		d := oci.FromHash(oci.SHA256, h)
		w := writer(t, s, d, int(size))
		r, err := s.Follow(t.Context(), d, 0)
		must(t, err)
		group.Go(func() {
			defer r.Close()
			got := sha256.New()
			n, err := io.CopyBuffer(struct{ io.Writer }{got}, struct{ io.Reader }{r}, make([]byte, 64<<10))
			if err != nil || n != size || !sameSum(got, d) {
				t.Errorf("the reader of %s got %d bytes, %v", d, n, err)
			}
			sample()
		})
		group.Go(func() {
			source, piece := &pattern{n: size, seed: seed + int64(i)}, make([]byte, 64<<10)
			for n := 0; ; n++ {
				k, err := source.Read(piece)
				if err == io.EOF {
					break
				}
				if _, err := w.Write(piece[:k]); err != nil {
					t.Error(err)
					return
				}
				if n%64 == 0 {
					sample()
				}
			}
			if err := w.Commit(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	return most.Load()
}

func sameSum(h hash.Hash, d oci.Digest) bool { return oci.FromHash(d.Algorithm(), h) == d }

// TestMemoryIsFlat: four blobs at once, each with a reader, take as much memory when they are eight times as large.
func TestMemoryIsFlat(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	must(t, err)
	defer s.Close()
	few := stream(t, s, 4, 1<<20, 1)
	many := stream(t, s, 4, 8<<20, 100)
	t.Logf("4 blobs of 1 MiB: %d KiB in use at most; of 8 MiB: %d KiB", few>>10, many>>10)
	if many > few+4<<20 {
		t.Errorf("%d bytes in use for blobs of 8 MiB, %d for blobs of 1 MiB", many, few)
	}
}
