package blob

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

func writer(t testing.TB, s *Store, d oci.Digest, size int) *Writer {
	t.Helper()
	w, err := s.Writer(d)
	must(t, err)
	if size >= 0 {
		must(t, w.Expect(t.Context(), int64(size)))
	}
	return w
}

func write(t testing.TB, w *Writer, data []byte) {
	t.Helper()
	n, err := w.Write(data)
	if err != nil || n != len(data) {
		t.Fatalf("wrote %d of %d: %v", n, len(data), err)
	}
}

// TestResume: abandon at each offset, go on in the same process and in another.
func TestResume(t *testing.T) {
	data, d := content(1, 20_000)
	for _, at := range []int{0, 1, 1023, 1024, 1025, 4096, 5000, 12_000, 19_999, 20_000} {
		dir := t.TempDir()
		s := openSmall(t, dir, Options{})
		w := writer(t, s, d, len(data))
		for p := range slices.Chunk(data[:at], 700) {
			write(t, w, p)
		}
		must(t, w.Abandon(errors.New("the link went")))
		if u := s.Usage(); u.Reserved != 0 {
			t.Errorf("at %d: still reserved: %+v", at, u)
		}
		wantUsage(t, s)
		must(t, s.Close())
		s = openSmall(t, dir, Options{})
		wantNone(t, s, d)
		w = writer(t, s, d, -1)
		want := int64(at)
		if at < 1024 {
			want = 0 // not worth a journal
		}
		if w.Offset() != want || want > 0 && w.Size() != int64(len(data)) {
			t.Fatalf("abandoned at %d: goes on at %d, size %d", at, w.Offset(), w.Size())
		}
		must(t, w.Expect(t.Context(), int64(len(data))))
		if at < len(data) {
			if err := w.Commit(); !errors.Is(err, ErrIncomplete) {
				t.Fatalf("got %v, want ErrIncomplete", err)
			}
			write(t, w, data[w.Offset():])
		}
		must(t, w.Commit())
		wantBlob(t, s, d, data)
		wantUsage(t, s)
		if left := inFolder(t, s, partialFolder); left != nil {
			t.Errorf("left in partial: %v", left)
		}
	}
}

func TestOneWriter(t *testing.T) {
	data, d := content(1, 100)
	s := openSmall(t, t.TempDir(), Options{})
	w := writer(t, s, d, -1)
	if _, err := s.Writer(d); !errors.Is(err, ErrBusy) {
		t.Fatalf("got %v, want ErrBusy", err)
	}
	write(t, w, data)
	must(t, w.Commit())
	if _, err := s.Writer(d); !errors.Is(err, ErrExists) {
		t.Fatalf("got %v, want ErrExists", err)
	}
	// A writer that has ended does nothing more.
	if _, err := w.Write(data); err == nil {
		t.Error("wrote after Commit")
	}
	if err := errors.Join(w.Abandon(nil), w.Discard(nil)); err != nil {
		t.Error(err)
	}
	if err := w.Commit(); !errors.Is(err, ErrExists) {
		t.Errorf("got %v", err)
	}
	wantBlob(t, s, d, data)
}

// TestMismatch: bytes that are wrong never become a blob, however they come.
func TestMismatch(t *testing.T) {
	data, d := content(1, 5000)
	wrong := bytes.Clone(data)
	wrong[2500] ^= 1
	for name, test := range map[string]struct {
		size  int
		bytes []byte
	}{
		"another byte":                {5000, wrong},
		"another byte, size unknown":  {-1, wrong},
		"too long":                    {5000, append(bytes.Clone(data), 0)},
		"too long, size unknown":      {-1, append(bytes.Clone(data), 0)},
		"cut short, size unknown":     {-1, data[:4999]},
		"cut short, wrong size":       {4999, data[:4999]},
		"an error page":               {5, []byte("<html")},
		"nothing, where something is": {0, nil},
	} {
		s := openSmall(t, t.TempDir(), Options{})
		w := writer(t, s, d, -1)
		err := w.Expect(t.Context(), int64(max(0, test.size)))
		if test.size < 0 {
			must(t, w.Discard(nil))
			w, err = s.Writer(d)
		}
		for p := range slices.Chunk(test.bytes, 700) {
			if err == nil {
				_, err = w.Write(p)
			}
		}
		if err == nil {
			err = w.Commit()
		}
		var mismatch *MismatchError
		if !errors.As(err, &mismatch) || mismatch.Digest != d {
			t.Errorf("%s: got %v, want a MismatchError", name, err)
		}
		wantNone(t, s, d)
		if left := inFolder(t, s, partialFolder); left != nil {
			t.Errorf("%s: left in partial: %v", name, left)
		}
		if aside := inFolder(t, s, quarantineFolder); len(aside) != 1 || aside[0] != fileName(d) {
			t.Errorf("%s: in quarantine: %v", name, aside)
		}
		if u := s.Usage(); u.Reserved != 0 {
			t.Errorf("%s: still reserved: %+v", name, u)
		}
		wantUsage(t, s)
		must(t, s.Put(d, data)) // nothing is in the way of the right bytes
		wantBlob(t, s, d, data)
	}
}

func TestSizes(t *testing.T) {
	data, d := content(1, 100)
	s := openSmall(t, t.TempDir(), Options{})
	w := writer(t, s, d, 100)
	for _, size := range []int64{-1, 0, 99, 101} {
		if err := w.Expect(t.Context(), size); !errors.Is(err, ErrSize) {
			t.Errorf("size %d: got %v, want ErrSize", size, err)
		}
	}
	must(t, w.Expect(t.Context(), 100))
	write(t, w, data)
	if _, err := w.Write([]byte("x")); !errors.Is(err, ErrSize) {
		t.Errorf("got %v: what is whole and right stays so", err)
	}
	must(t, w.Commit())
	wantBlob(t, s, d, data)
}

func TestDiscard(t *testing.T) {
	data, d := content(1, 10_000)
	s := openSmall(t, t.TempDir(), Options{})
	w := writer(t, s, d, len(data))
	write(t, w, data[:9000])
	must(t, w.Discard(errors.New("an error page")))
	wantUsage(t, s)
	if w := writer(t, s, d, -1); w.Offset() != 0 {
		t.Errorf("goes on at %d", w.Offset())
	}
}

// TestQuarantineIsBounded: a source that sends rubbish does not fill the disk with evidence.
func TestQuarantineIsBounded(t *testing.T) {
	s := openSmall(t, t.TempDir(), Options{}, func(t *tuning) { t.quarantineLimit = 10_000 })
	for i := range 10 {
		_, d := content(byte(i), 1)
		rubbish, _ := content(byte(100+i), 4000)
		var mismatch *MismatchError
		if err := s.Put(d, rubbish); !errors.As(err, &mismatch) {
			t.Fatal(err)
		}
	}
	_, d := content(200, 1)
	huge, _ := content(201, 20_000)
	if err := s.Put(d, huge); err == nil {
		t.Fatal("rubbish was taken")
	}
	if aside := inFolder(t, s, quarantineFolder); len(aside) != 2 {
		t.Errorf("in quarantine: %v", aside)
	}
	wantUsage(t, s)
}

// powerCut does to an abandoned partial what a power cut may do to bytes that were not flushed.
func powerCut(t testing.TB, s *Store, d oci.Digest) {
	t.Helper()
	j, err := readJournal(s.partialPath(d)+journalSuffix, d)
	must(t, err)
	f, err := os.OpenFile(s.partialPath(d), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt(make([]byte, fileSize(s.partialPath(d))-j.Offset), j.Offset)
	must(t, errors.Join(err, f.Close()))
}

// TestPowerCut: in another boot only what was flushed is believed, and that is not fetched again.
func TestPowerCut(t *testing.T) {
	data, d := content(1, 30_000)
	dir := t.TempDir()
	offset := int64(0)
	for boot := 0; offset < int64(len(data)); boot++ {
		s := openSmall(t, dir, Options{Log: logTo(t)}, func(t *tuning) { t.boot = string(rune('a' + boot)) })
		w := writer(t, s, d, len(data))
		if w.Offset() < offset {
			t.Fatalf("boot %d: goes on at %d, %d were flushed", boot, w.Offset(), offset)
		}
		if cut := w.cut; cut != (boot > 0) {
			t.Fatalf("boot %d: cut is %v", boot, cut)
		}
		write(t, w, data[w.Offset():min(int(w.Offset())+9000, len(data))])
		w.mu.Lock()
		must(t, w.collectCheckpoint(true))
		offset = w.durable
		w.mu.Unlock()
		if offset == int64(len(data)) {
			must(t, w.Commit())
			wantBlob(t, s, d, data)
			return
		}
		must(t, s.Close())
		powerCut(t, s, d)
	}
}

// TestLyingDisk: bytes that were flushed and are wrong after a power cut do not become a blob.
func TestLyingDisk(t *testing.T) {
	data, d := content(1, 20_000)
	dir := t.TempDir()
	s := openSmall(t, dir, Options{})
	w := writer(t, s, d, len(data))
	write(t, w, data[:15_000])
	must(t, w.Abandon(nil))
	must(t, s.Close())
	f, err := os.OpenFile(s.partialPath(d), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("lost"), 3000)
	must(t, errors.Join(err, f.Close()))
	s = openSmall(t, dir, Options{}, func(t *tuning) { t.boot = "another" })
	w = writer(t, s, d, len(data))
	if w.Offset() != 15_000 {
		t.Fatalf("goes on at %d", w.Offset())
	}
	var mismatch *MismatchError
	if _, err := w.Write(data[15_000:]); !errors.As(err, &mismatch) {
		t.Fatalf("got %v, want a MismatchError", err)
	}
	wantNone(t, s, d)
}

// TestWholePartial: one that was killed between its last byte and its commit. The right one needs no byte more; a wrong one is set
// aside before anybody sees it.
func TestWholePartial(t *testing.T) {
	data, d := content(1, 20_000)
	for _, flip := range []bool{false, true} {
		dir := t.TempDir()
		s := openSmall(t, dir, Options{})
		w := writer(t, s, d, len(data))
		write(t, w, data)
		must(t, w.Abandon(nil))
		must(t, s.Close())
		if flip {
			bad := bytes.Clone(data)
			bad[19_999] ^= 1
			must(t, os.WriteFile(s.partialPath(d), bad, 0o600))
			must(t, os.WriteFile(s.partialPath(d)+journalSuffix, []byte(`{"digest":"`+d.String()+`","size":20000,"boot":"`+s.boot+`"}`), 0o600))
		}
		s = openSmall(t, dir, Options{Log: logTo(t)})
		w = writer(t, s, d, -1)
		if want := map[bool]int64{false: 20_000, true: 0}[flip]; w.Offset() != want {
			t.Fatalf("goes on at %d, want %d", w.Offset(), want)
		}
		must(t, w.Expect(t.Context(), 20_000))
		if flip {
			write(t, w, data)
		}
		must(t, w.Commit())
		wantBlob(t, s, d, data)
		wantUsage(t, s)
	}
}

// TestDamagedJournal: with any journal the result is right, and with none that fits what is there is read again or fetched again.
func TestDamagedJournal(t *testing.T) {
	data, d := content(1, 20_000)
	for name, test := range map[string]struct {
		change func(j []byte) []byte
		want   int64
	}{
		"as it is":      {func(j []byte) []byte { return j }, 15_000},
		"empty":         {func([]byte) []byte { return nil }, 0},
		"cut":           {func(j []byte) []byte { return j[:len(j)/2] }, 0},
		"zeros":         {func(j []byte) []byte { return make([]byte, len(j)) }, 0},
		"another state": {func(j []byte) []byte { return bytes.Replace(j, []byte(`"state":"`), []byte(`"state":"AAAA`), 1) }, 15_000},
		"too far":       {func(j []byte) []byte { return bytes.Replace(j, []byte(`"offset":15000`), []byte(`"offset":19000`), 1) }, 15_000},
		"of another":    {func(j []byte) []byte { return bytes.Replace(j, []byte(`sha256:`), []byte(`sha512:`), 1) }, 0},
		"long":          {func(j []byte) []byte { return append(j, bytes.Repeat([]byte(" "), 1<<20)...) }, 15_000},
	} {
		dir := t.TempDir()
		s := openSmall(t, dir, Options{})
		w := writer(t, s, d, len(data))
		write(t, w, data[:15_000])
		must(t, w.Abandon(nil))
		must(t, s.Close())
		path := s.partialPath(d) + journalSuffix
		j, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, test.change(j), 0o600))
		s = openSmall(t, dir, Options{})
		w = writer(t, s, d, len(data))
		if w.Offset() != test.want {
			t.Errorf("%s: goes on at %d, want %d", name, w.Offset(), test.want)
		}
		write(t, w, data[w.Offset():])
		must(t, w.Commit())
		wantBlob(t, s, d, data)
		wantUsage(t, s)
	}
}

// TestSlowDownload: a checkpoint is taken by time as well, or a slow link would lose hours.
func TestSlowDownload(t *testing.T) {
	data, d := content(1, 3000)
	s := openSmall(t, t.TempDir(), Options{}, func(t *tuning) { t.checkpointEvery = time.Nanosecond })
	w := writer(t, s, d, len(data))
	write(t, w, data[:1500])
	w.mu.Lock()
	must(t, w.collectCheckpoint(true))
	durable := w.durable
	w.mu.Unlock()
	if durable != 1500 {
		t.Errorf("%d bytes are safe, want 1500", durable)
	}
	if _, err := os.Stat(filepath.Join(s.dir, partialFolder, fileName(d)+journalSuffix)); err != nil {
		t.Error(err)
	}
}

func FuzzJournal(f *testing.F) {
	_, d := content(1, 1)
	f.Add([]byte(`{"digest":"` + d.String() + `","size":20,"boot":"x","offset":3,"state":"c2hhAw=="}`))
	f.Add([]byte(`{"digest":"` + d.String() + `","size":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := parseJournal(d, data)
		if err != nil {
			return
		}
		if j.Digest != d || j.Offset < 0 || j.Size < -1 || j.Size >= 0 && j.Offset > j.Size {
			t.Errorf("%+v", j)
		}
		if h := d.Algorithm().New(); restore(h, j.State) == nil {
			h.Sum(nil) // must not panic
		}
	})
}
