package blob

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// wantThere checks which of the blobs with seeds 1, 2, … of 1000 bytes are there.
func wantThere(t testing.TB, s *Store, want ...bool) {
	t.Helper()
	for i, there := range want {
		_, d := content(byte(i+1), 1000)
		if _, err := s.Stat(d); (err == nil) != there {
			t.Errorf("blob %d: %v, want there=%v", i+1, err, there)
		}
	}
	wantUsage(t, s)
}

// TestCollect: what was not asked for for longest goes, no more than is needed, and nothing that anybody needs.
func TestCollect(t *testing.T) {
	_, root := content(1, 1000)
	_, pinned := content(2, 1000)
	_, read := content(3, 1000)
	dir := t.TempDir()
	s := openSmall(t, dir, Options{Roots: rootsOf(root)})
	for seed := range byte(8) {
		put(t, s, seed+1, 1000)
	}
	release := s.Pin(pinned)
	reader, err := s.Open(read)
	must(t, err)
	_, fourth := content(4, 1000)
	touch, err := s.Open(fourth) // asked for again: 5 is the oldest now
	must(t, errors.Join(err, touch.Close()))

	s.SetBudget(Budget{Quota: 8000})
	got, err := s.Collect(t.Context(), 0)
	if err != nil || got != (Collected{}) {
		t.Fatalf("nothing was needed: %+v, %v", got, err)
	}
	got, err = s.Collect(t.Context(), 1500)
	if err != nil || got != (Collected{2, 2000}) {
		t.Fatalf("got %+v, %v", got, err)
	}
	wantThere(t, s, true, true, true, true, false, false, true, true)

	// The order outlives the process, whatever its clock says.
	must(t, errors.Join(reader.Close(), s.Close()))
	release()
	s = openSmall(t, dir, Options{Roots: rootsOf(root)})
	if s.Usage().Bytes != 6000 {
		t.Errorf("%+v", s.Usage())
	}
	release = s.Pin(pinned)
	s.SetBudget(Budget{Quota: 3000})
	got, err = s.Collect(t.Context(), 0)
	if err != nil || got.Files != 3 {
		t.Fatalf("got %+v, %v", got, err)
	}
	wantThere(t, s, true, true, false, true, false, false, false, false) // 3 was read before 4 was

	// What must stay stays, even if it is too much.
	s.SetBudget(Budget{Quota: 1})
	var room *RoomError
	if _, err := s.Collect(t.Context(), 0); !errors.As(err, &room) || !errors.Is(err, ErrNoRoom) || room.Short != 1999 {
		t.Errorf("got %v", err)
	}
	wantThere(t, s, true, true, false, false)
	release()
	release()
	if _, err := s.Collect(t.Context(), 0); !errors.Is(err, ErrNoRoom) {
		t.Errorf("got %v", err)
	}
	wantThere(t, s, true, false)
}

// TestWrongClock: a node that boots in 1970 does not take what it used since for the oldest.
func TestWrongClock(t *testing.T) {
	dir := t.TempDir()
	s := openSmall(t, dir, Options{})
	first, second := put(t, s, 1, 1000), put(t, s, 2, 1000)
	must(t, s.Close())
	ahead := time.Now().Add(1000 * time.Hour)
	must(t, os.Chtimes(s.path(second), ahead, ahead))
	s = openSmall(t, dir, Options{Roots: rootsOf()})
	r, err := s.Open(first)
	must(t, errors.Join(err, r.Close()))
	put(t, s, 3, 1000)
	s.SetBudget(Budget{Quota: 2000})
	_, err = s.Collect(t.Context(), 0)
	must(t, err)
	wantThere(t, s, true, false, true)
}

// TestCollectLeavesAll: without knowing what must stay, nothing goes.
func TestCollectLeavesAll(t *testing.T) {
	unknown := errors.New("a manifest is damaged")
	for name, roots := range map[string]func(context.Context) iter.Seq2[oci.Digest, error]{
		"nobody says": nil,
		"an error": func(context.Context) iter.Seq2[oci.Digest, error] {
			return func(yield func(oci.Digest, error) bool) { yield(oci.Digest{}, unknown) }
		},
	} {
		s := openSmall(t, t.TempDir(), Options{Roots: roots})
		put(t, s, 1, 1000)
		s.SetBudget(Budget{Quota: 500})
		if _, err := s.Collect(t.Context(), 0); err == nil || roots != nil && !errors.Is(err, unknown) {
			t.Errorf("%s: got %v", name, err)
		}
		wantThere(t, s, true)
	}
}

// TestRoom: a blob that can never fit, and one for which there is no room now, are errors before a byte is asked for.
func TestRoom(t *testing.T) {
	root := rootsOf()
	s := openSmall(t, t.TempDir(), Options{Budget: Budget{Quota: 5000}, Roots: root})
	_, huge := content(9, 5001)
	w := writer(t, s, huge, -1)
	if err := w.Expect(t.Context(), 5001); !errors.Is(err, ErrNeverFits) || !errors.Is(err, ErrNoRoom) {
		t.Fatalf("got %v, want ErrNeverFits", err)
	}
	must(t, w.Abandon(nil))
	first := put(t, s, 1, 1000)
	release := s.Pin(first)
	put(t, s, 2, 1000)
	data, d := content(10, 4000)
	w = writer(t, s, d, len(data)) // 2 had to go
	wantThere(t, s, true, false)
	other, od := content(11, 500)
	var room *RoomError
	if err := s.Put(od, other); !errors.As(err, &room) || room.Digest != od || room.Short != 500 || errors.Is(err, ErrNeverFits) {
		t.Fatalf("got %v: what is promised to a writer is not free", err)
	}
	write(t, w, data)
	must(t, w.Commit())
	wantUsage(t, s)
	release()
	must(t, s.Put(od, other))
	wantThere(t, s, false, false)

	// Without a size each piece is checked.
	data, d = content(12, 5500)
	w = writer(t, s, d, -1)
	var err error
	for n := 0; n < len(data) && err == nil; n += 500 {
		_, err = w.Write(data[n : n+500])
	}
	if !errors.Is(err, ErrNoRoom) {
		t.Fatalf("got %v, want ErrNoRoom", err)
	}
	wantUsage(t, s)
}

// TestReserve: other programs' room on the file system is left alone.
func TestReserve(t *testing.T) {
	free := int64(10_000)
	s := openSmall(t, t.TempDir(), Options{Budget: Budget{Reserve: 7000}, Roots: rootsOf()}, func(t *tuning) { t.free = func() (int64, error) { return free, nil } })
	_, d := content(1, 4000)
	w := writer(t, s, d, -1)
	var room *RoomError
	if err := w.Expect(t.Context(), 4000); !errors.As(err, &room) || room.Short != 1000 || room.Reserve != 7000 {
		t.Fatalf("got %v", err)
	}
	free = 11_000
	must(t, w.Expect(t.Context(), 4000))
	broken := errors.New("statfs")
	s.free = func() (int64, error) { return 0, broken }
	if _, err := s.Collect(t.Context(), 1); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// TestCollectPartials: what nobody goes on with makes room in its turn, what is being written does not, and evidence goes first.
func TestCollectPartials(t *testing.T) {
	s := openSmall(t, t.TempDir(), Options{Roots: rootsOf()})
	part := func(seed byte) *Writer {
		data, d := content(seed, 9000)
		w := writer(t, s, d, len(data))
		write(t, w, data[:3000])
		return w
	}
	must(t, part(50).Abandon(nil))
	kept := part(51)
	put(t, s, 1, 1000)
	wrong, _ := content(60, 700)
	_, d := content(61, 700)
	if err := s.Put(d, wrong); err == nil {
		t.Fatal("rubbish was taken")
	}
	s.SetBudget(Budget{Quota: s.Usage().Bytes + s.Usage().Reserved - 1})
	got, err := s.Collect(t.Context(), 0)
	if err != nil || got != (Collected{1, 700}) || s.Usage().Quarantine != 0 {
		t.Fatalf("got %+v, %v", got, err)
	}
	got, err = s.Collect(t.Context(), 700)
	if err != nil || got != (Collected{1, 3000}) {
		t.Fatalf("got %+v, %v", got, err)
	}
	wantThere(t, s, true)
	if left := inFolder(t, s, partialFolder); len(left) != 2 { // the one that is being written, and its journal
		t.Errorf("left in partial: %v", left)
	}
	if _, err := s.Collect(t.Context(), 1<<40); !errors.Is(err, ErrNoRoom) {
		t.Fatalf("got %v, want ErrNoRoom", err)
	}
	if left := inFolder(t, s, partialFolder); len(left) != 2 {
		t.Errorf("a partial was collected while it was being written: %v", left)
	}
	wantThere(t, s, false)
	data, d := content(51, 9000)
	write(t, kept, data[3000:])
	must(t, kept.Commit())
	wantBlob(t, s, d, data)
	wantUsage(t, s)
}

// TestTimesAreFlushed: rarely, but before there are too many.
func TestTimesAreFlushed(t *testing.T) {
	s := openSmall(t, t.TempDir(), Options{})
	data, d := content(1, 10)
	must(t, s.Put(d, data))
	old := time.Unix(1, 0)
	must(t, os.Chtimes(s.path(d), old, old))
	wantBlob(t, s, d, data)
	if info, err := os.Stat(s.path(d)); err != nil || !info.ModTime().Equal(old) {
		t.Errorf("the time was written at once: %v, %v", info.ModTime(), err)
	}
	s.flushed = time.Now().Add(-flushEvery)
	wantBlob(t, s, d, data)
	if info, err := os.Stat(s.path(d)); err != nil || time.Since(info.ModTime()) > time.Hour {
		t.Errorf("the time was not written: %v, %v", info.ModTime(), err)
	}
}

// TestTree lists an image with all below it, and tells what is missing from what is damaged.
func TestTree(t *testing.T) {
	s := openSmall(t, t.TempDir(), Options{})
	layer, config := put(t, s, 1, 1000), put(t, s, 2, 100)
	_, missing := content(3, 10)
	store := func(mediaType, text string) oci.Descriptor {
		d := oci.SHA256.FromBytes([]byte(text))
		must(t, s.Put(d, []byte(text)))
		return oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(text))}
	}
	image := store(oci.MediaTypeManifest, `{"schemaVersion":2,"config":{"digest":"`+config.String()+`","size":100},"layers":[{"digest":"`+layer.String()+`","size":1000},{"digest":"`+layer.String()+`","size":1000}]}`)
	odd := store(oci.MediaTypeManifest, `{"schemaVersion":1}`)
	index := store(oci.MediaTypeIndex, `{"schemaVersion":2,"manifests":[{"mediaType":"`+oci.MediaTypeManifest+`","digest":"`+image.Digest.String()+`","size":1},
		{"mediaType":"`+oci.MediaTypeManifest+`","digest":"`+missing.String()+`","size":1},{"mediaType":"`+oci.MediaTypeManifest+`","digest":"`+odd.Digest.String()+`","size":1}]}`)
	want := map[oci.Digest]error{index.Digest: nil, image.Digest: nil, missing: ErrNotFound, odd.Digest: ErrNotManifest, config: nil, layer: nil}
	check := func() {
		t.Helper()
		n := 0
		for d, err := range s.Tree(t.Context(), index) {
			n++
			if wanted, ok := want[d.Digest]; !ok || !errors.Is(err, wanted) {
				t.Errorf("%s: %v, want %v", d.Digest, err, wanted)
			}
		}
		if n != len(want) {
			t.Errorf("%d descriptors, want %d", n, len(want))
		}
	}
	check()
	for range s.Tree(t.Context(), index) {
		break
	}
	bad, err := os.ReadFile(s.path(image.Digest))
	must(t, err)
	must(t, os.WriteFile(s.path(image.Digest), bytes.ToUpper(bad), 0o600))
	var corrupt *CorruptError
	for d, err := range s.Tree(t.Context(), image) {
		if !errors.As(err, &corrupt) || d.Digest != image.Digest {
			t.Errorf("%s: %v", d.Digest, err)
		}
	}
	wantNone(t, s, image.Digest)
	delete(want, config)
	delete(want, layer)
	want[image.Digest] = ErrNotFound
	check()
}
