package blob

import (
	"errors"
	"math"
	"os"
	"slices"
	"syscall"
	"testing"
)

// TestDiskFull fills a file system of its own, which the store did not see coming: the error is ErrNoRoom, what was written stays, and
// when there is room again the rest comes.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	tuned := small(dir)
	s, err := open(dir, Options{Log: logTo(t)}, tuned)
	must(t, err)
	// It sees the end coming, before a byte is asked for.
	data, d := content(1, 900_000)
	first := put(t, s, 2, 400_000)
	w := writer(t, s, d, -1)
	if err := w.Expect(t.Context(), int64(len(data))); !errors.Is(err, ErrNoRoom) {
		t.Fatalf("got %v, want ErrNoRoom", err)
	}
	s.free = func() (int64, error) { return math.MaxInt64, nil } // somebody else fills the disk meanwhile
	must(t, w.Expect(t.Context(), int64(len(data))))
	for p := range slices.Chunk(data, 10_000) {
		if _, err = w.Write(p); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrNoRoom) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want ErrNoRoom for ENOSPC", err)
	}
	there := w.Offset()
	if there < 300_000 {
		t.Fatalf("only %d bytes fitted", there)
	}
	must(t, w.Abandon(err))
	_, other := content(3, 5000)
	if err := s.Put(other, make([]byte, 5000)); !errors.Is(err, ErrNoRoom) {
		t.Errorf("another blob: got %v, want ErrNoRoom", err)
	}
	must(t, s.Close())

	s, err = open(dir, Options{Roots: rootsOf(d)}, tuned)
	must(t, err)
	defer s.Close()
	must(t, s.Verify(t.Context(), first))
	s.SetBudget(Budget{Quota: 920_000})
	w = writer(t, s, d, -1)
	if w.Offset() < there-int64(tuned.checkpointBytes) {
		t.Errorf("goes on at %d, %d were written", w.Offset(), there)
	}
	must(t, w.Expect(t.Context(), int64(len(data)))) // the first blob goes for it
	wantNone(t, s, first)
	write(t, w, data[w.Offset():])
	must(t, w.Commit())
	wantBlob(t, s, d, data)
	wantUsage(t, s)
}
