package blob

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// faults is a disk that fails: the operations that are named by number, or all from one on.
type faults struct {
	mu   sync.Mutex // guards all below
	n    int
	log  []string
	from int // this operation fails…
	last int // …and all up to this one
	with error
	only string // this kind only, or all
}

func (f *faults) step(op, path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.only != "" && op != f.only {
		return nil
	}
	f.n++
	f.log = append(f.log, op+" "+path)
	if f.with != nil && f.n >= f.from && f.n <= f.last {
		return f.with
	}
	return nil
}

func (f *faults) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.with = nil
}

func (f *faults) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// download writes a blob as a fetch does: again and again from where it stands, until an error stays.
func download(t testing.TB, s *Store, seed byte, n int, sent *int) error {
	data, d := content(seed, n)
	w, err := s.Writer(d)
	if err != nil {
		return err
	}
	if err := w.Expect(t.Context(), int64(n)); err != nil {
		return errors.Join(err, w.Abandon(err))
	}
	for p := range slices.Chunk(data[w.Offset():], 2000) {
		n, err := w.Write(p)
		*sent += n
		if err != nil {
			return errors.Join(err, w.Abandon(err))
		}
		settle(w)
	}
	if err := w.Commit(); err != nil {
		return errors.Join(err, w.Abandon(err))
	}
	return nil
}

// settle waits for a checkpoint, so that the operations on the disk come in one order.
func settle(w *Writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending != nil {
		<-w.pending.done
	}
}

const downloadSize = 18_000

// TestEveryFault: each operation on the disk fails once, or from then on. The error is typed, nothing wrong is ever served, and once
// the disk is well again the blob arrives, with what was written kept where that was promised.
func TestEveryFault(t *testing.T) {
	whole := &faults{}
	dir := t.TempDir()
	s := openSmall(t, dir, Options{}, func(t *tuning) { t.disk.step = whole.step })
	sent := 0
	must(t, download(t, s, 1, downloadSize, &sent))
	if whole.n < 40 {
		t.Fatalf("only %d operations: %q", whole.n, whole.log)
	}
	for _, with := range []error{syscall.ENOSPC, syscall.EIO} {
		for at := 1; at <= whole.n; at++ {
			for _, last := range []int{at, 1 << 30} {
				t.Run(fmt.Sprintf("%v at %d to %d", with, at, last), func(t *testing.T) {
					t.Parallel()
					oneFault(t, &faults{from: at, last: last, with: with})
				})
			}
		}
	}
}

func oneFault(t *testing.T, f *faults) {
	dir := t.TempDir()
	tuned := small(dir)
	tuned.disk.step = f.step
	full := !errors.Is(f.with, syscall.EIO)
	data, d := content(1, downloadSize)
	s, err := open(dir, Options{}, tuned)
	if err != nil {
		if !errors.Is(err, f.with) || errors.Is(err, ErrNoRoom) != full {
			t.Fatalf("open: %v", err)
		}
		f.heal()
		s, err = open(dir, Options{}, tuned)
		must(t, err)
	}
	defer s.Close()
	sent := 0
	if err := download(t, s, 1, downloadSize, &sent); err != nil {
		if !errors.Is(err, f.with) || errors.Is(err, ErrNoRoom) != full {
			t.Fatalf("download: %v", err)
		}
		stays := f.last > f.from && f.log[f.from-1] == "fsync "+filepath.Dir(s.path(d))
		if stays { // its name could neither be made to last nor be taken back
			wantBlob(t, s, d, data)
			return
		}
		wantNone(t, s, d)
		if u := s.Usage(); u.Reserved != 0 {
			t.Errorf("still reserved: %+v", u)
		}
		wantUsage(t, s)
		f.heal()
		must(t, s.Close())
		s, err = open(dir, Options{}, tuned)
		must(t, err)
		defer s.Close()
		wantNone(t, s, d)
		must(t, download(t, s, 1, downloadSize, &sent))
	}
	wantBlob(t, s, d, data)
	wantUsage(t, s)
}

func TestDiskError(t *testing.T) {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		if err := diskError(&fs.PathError{Op: "write", Path: "x", Err: full}); !errors.Is(err, ErrNoRoom) || !errors.Is(err, full) {
			t.Errorf("%v became %v", full, err)
		}
	}
	if err := diskError(syscall.EIO); errors.Is(err, ErrNoRoom) {
		t.Errorf("got %v", err)
	}
}

// TestFullDiskKeepsBytes: what was written before the disk was full is not fetched again, and the same writer can go on.
func TestFullDiskKeepsBytes(t *testing.T) {
	f := &faults{from: 5, last: 7, with: syscall.ENOSPC, only: "write"}
	s := openSmall(t, t.TempDir(), Options{Log: logTo(t)}, func(t *tuning) { t.disk.step = f.step; t.checkpointBytes = 1 << 30 })
	data, d := content(1, downloadSize)
	w := writer(t, s, d, len(data))
	failed := 0
	for w.Offset() < int64(len(data)) {
		if _, err := w.Write(data[w.Offset():min(int(w.Offset())+2000, len(data))]); err != nil {
			if !errors.Is(err, ErrNoRoom) {
				t.Fatal(err)
			}
			failed++
		}
	}
	if failed == 0 {
		t.Fatal("nothing failed")
	}
	must(t, w.Commit())
	wantBlob(t, s, d, data)
	wantUsage(t, s)
}

// TestCommitAgain: a commit that failed may be tried again, with nothing fetched anew.
func TestCommitAgain(t *testing.T) {
	for _, op := range []string{"utimes", "mkdir", "rename"} {
		f := &faults{with: syscall.ENOSPC, only: op, from: 1, last: 1 << 30}
		s := openSmall(t, t.TempDir(), Options{}, func(t *tuning) { t.checkpointBytes = 1 << 30; t.journalFrom = 1 << 30 })
		s.disk.step = f.step
		data, d := content(1, downloadSize)
		w := writer(t, s, d, len(data))
		write(t, w, data)
		if err := w.Commit(); !errors.Is(err, ErrNoRoom) {
			t.Fatalf("%s: got %v, want ErrNoRoom", op, err)
		}
		wantNone(t, s, d)
		f.heal()
		must(t, w.Commit())
		wantBlob(t, s, d, data)
	}
}

// TestFlushes counts what flash memory wears out by.
func TestFlushes(t *testing.T) {
	f := &faults{only: "fsync"}
	s := openSmall(t, t.TempDir(), Options{}, func(t *tuning) { t.disk.step = f.step; t.checkpointBytes, t.journalFrom = 8<<10, 4<<10 })
	flushes := func(what string, want int, do func()) {
		t.Helper()
		before := f.count()
		do()
		if got := f.count() - before; got != want {
			t.Errorf("%s: %d flushes, want %d: %q", what, got, want, f.log[before:])
		}
	}
	data, d := content(1, 3000)
	flushes("a small blob and its folder", 3, func() { must(t, s.Put(d, data)) })
	aside := s.path(d)
	must(t, s.disk.rename(aside, aside+".tmp"))
	flushes("a small blob", 2, func() { must(t, s.Put(d, data)) })
	flushes("a large blob: 2, and its folder 1, and 3 for its one checkpoint", 6, func() { sent := 0; must(t, download(t, s, 2, downloadSize, &sent)) })
	flushes("reading, scrubbing, collecting nothing, and the end", 0, func() {
		for range 100 {
			wantBlob(t, s, d, data)
		}
		must(t, s.Verify(t.Context(), d))
		_, err := s.Collect(t.Context(), 0)
		must(t, err)
		must(t, s.Close())
	})
}

// TestFailedFlush: after a flush that failed the kernel may show bytes that the disk never gets, and the next flush says nothing of it.
// So what came since the last good flush is fetched again.
func TestFailedFlush(t *testing.T) {
	for at, want := range map[int]int64{1: 0, 4: 6000, 7: 12_000, 10: 18_000} { // each checkpoint flushes the file, its journal and the folder
		f := &faults{with: syscall.EIO, only: "fsync", from: at, last: at}
		s := openSmall(t, t.TempDir(), Options{})
		s.disk.step = f.step
		data, d := content(1, downloadSize)
		w := writer(t, s, d, len(data))
		var err error
		for p := range slices.Chunk(data, 6000) {
			if _, err = w.Write(p); err != nil {
				break
			}
			settle(w)
		}
		if err == nil {
			err = w.Commit()
		}
		if !errors.Is(err, syscall.EIO) {
			t.Fatalf("flush %d failed: got %v", at, err)
		}
		if err := w.Commit(); !errors.Is(err, syscall.EIO) {
			t.Errorf("flush %d failed: the same writer committed: %v", at, err)
		}
		wantNone(t, s, d)
		wantUsage(t, s)
		w = writer(t, s, d, len(data))
		if w.Offset() != want {
			t.Errorf("flush %d failed: goes on at %d, want %d", at, w.Offset(), want)
		}
		if rest := data[w.Offset():]; len(rest) > 0 {
			write(t, w, rest)
		}
		must(t, w.Commit())
		wantBlob(t, s, d, data)
	}
}
