package pack_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/source/pack"
)

func TestLooseObjects(t *testing.T) {
	dir := t.TempDir()
	git(t, dir, "", "init", "-q")
	for i := range 20 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte(strings.Repeat("x", i*100)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git(t, dir, "", "add", ".")
	git(t, dir, "", "commit", "-qm", "loose")
	compare(t, dir, open(t, filepath.Join(dir, ".git/objects")))
}

func TestSeveralFolders(t *testing.T) {
	dir := history(t, 10)
	empty := objectsDir(t)
	s := open(t, filepath.Join(t.TempDir(), "missing"), empty, filepath.Join(dir, ".git/objects"))
	compare(t, dir, s)
}

func TestNotFound(t *testing.T) {
	s := open(t, objectsDir(t))
	id, err := pack.ParseID(strings.Repeat("12", 20))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Object(id); !errors.Is(err, pack.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	if ok, err := s.Has(id); ok || err != nil {
		t.Fatalf("got %v, %v", ok, err)
	}
}

func TestPrefixed(t *testing.T) {
	dir := history(t, 30)
	objects := objectsDir(t)
	install(t, objects, packOf(t, dir))
	tip := strings.TrimSpace(git(t, dir, "", "rev-parse", "main"))
	for name, s := range map[string]*pack.Store{"packed": open(t, objects), "loose": open(t, filepath.Join(dir, ".git/objects"))} {
		for _, n := range []int{7, 8, 40} {
			ids, err := s.Prefixed(tip[:n])
			if err != nil || len(ids) != 1 || ids[0].String() != tip {
				t.Fatalf("%s: %s: %v, %v", name, tip[:n], ids, err)
			}
		}
	}
}

// TestDamage alters one byte or cuts the files of a clone: reading gives the right bytes or an error that says so.
func TestDamage(t *testing.T) {
	dir := history(t, 40)
	raw := packOf(t, dir, "--delta-base-offset")
	var ids []pack.ID
	for line := range strings.Lines(git(t, dir, "", "rev-list", "--objects", "--no-object-names", "--all")) {
		id, err := pack.ParseID(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	objects := objectsDir(t)
	got := install(t, objects, raw)
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, ext := range []string{".pack", ".idx"} {
		name := filepath.Join(objects, "pack", "pack-"+got.Sum.String()+ext)
		good, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		noticed := 0
		for i := range 60 {
			bad := bytes.Clone(good)
			if i%3 == 0 {
				bad = bad[:rnd.IntN(len(bad))]
			} else {
				bad[rnd.IntN(len(bad))] ^= byte(1 << rnd.IntN(8))
			}
			replace(t, name, bad)
			if readAll(t, objects, ids) {
				noticed++
			}
		}
		replace(t, name, good)
		if noticed < 20 { // every cut, and most flips; a flip in a checksum nobody reads changes nothing
			t.Errorf("%s: only %d of 60 alterations were noticed", ext, noticed)
		}
		if readAll(t, objects, ids) {
			t.Fatal("the good clone is called damaged")
		}
	}
}

// readAll reads all objects and says whether damage was noticed.
func readAll(t *testing.T, objects string, ids []pack.ID) bool {
	t.Helper()
	s, err := pack.OpenStore(4<<20, objects)
	if err != nil {
		if !errors.Is(err, pack.ErrDamaged) {
			t.Fatalf("open: %v", err)
		}
		return true
	}
	defer s.Close()
	noticed := false
	for _, id := range ids {
		kind, raw, err := s.Object(id)
		if err != nil {
			if !errors.Is(err, pack.ErrDamaged) && !errors.Is(err, pack.ErrNotFound) && !errors.Is(err, pack.ErrTooLarge) {
				t.Fatalf("read: %v", err)
			}
			noticed = true
			continue
		}
		if is, err := pack.Hash(kind, raw); err != nil || is != id {
			t.Fatalf("other bytes for %s", id)
		}
	}
	return noticed
}

func replace(t *testing.T, name string, raw []byte) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCleanAndCrash(t *testing.T) {
	dir := history(t, 5)
	objects := objectsDir(t)
	got := install(t, objects, packOf(t, dir))
	folder := filepath.Join(objects, "pack")
	for _, name := range []string{"tmp_pack_123", "tmp_idx_9", "pack-1111111111111111111111111111111111111111.pack"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := pack.Clean(objects); err != nil {
		t.Fatal(err)
	}
	list, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(list) != 2 {
		t.Fatalf("left: %v, %v", list, err)
	}
	if err := os.Remove(filepath.Join(folder, "pack-"+got.Sum.String()+".pack")); err != nil {
		t.Fatal(err)
	}
	if _, err := pack.OpenStore(1<<20, objects); !errors.Is(err, pack.ErrDamaged) {
		t.Fatalf("an index without pack: %v", err)
	}
}

func TestJoin(t *testing.T) {
	dir := history(t, 60)
	objects := objectsDir(t)
	from := ""
	for i := 59; i >= 0; i -= 10 { // six packs, each on top of the last
		to := strings.TrimSpace(git(t, dir, "", "rev-parse", fmt.Sprintf("main~%d", i/10*10)))
		revs := to + "\n"
		if from != "" {
			revs += "^" + from + "\n"
		}
		args := []string{"pack-objects", "--revs", "--stdout", "-q"}
		if i%20 == 9 {
			args = append(args, "--delta-base-offset")
		}
		install(t, objects, []byte(git(t, dir, revs, args...)))
		from = to
	}
	install(t, objects, packOf(t, dir)) // and one that has everything: the six become superfluous
	if n := open(t, objects).Packs(); n != 7 {
		t.Fatalf("%d packs", n)
	}
	before, err := pack.Size(objects)
	if err != nil {
		t.Fatal(err)
	}
	s, err := pack.OpenStore(4<<20, objects)
	if err != nil {
		t.Fatal(err)
	}
	if err := pack.Join(t.Context(), objects, s); err != nil {
		t.Fatal(err)
	}
	s.Close()
	after, err := pack.Size(objects)
	if err != nil || after >= before {
		t.Fatalf("%d bytes before, %d after, %v", before, after, err)
	}
	joined := open(t, objects)
	if joined.Packs() != 1 {
		t.Fatalf("%d packs after joining", joined.Packs())
	}
	compare(t, dir, joined)
	git(t, filepath.Dir(objects), "", "fsck", "--full", "--strict")
}

// TestJoinOverlapping joins packs that share objects and none of which has all.
func TestJoinOverlapping(t *testing.T) {
	dir := history(t, 30)
	objects := objectsDir(t)
	main := func(back int) string {
		return strings.TrimSpace(git(t, dir, "", "rev-parse", fmt.Sprintf("main~%d", back)))
	}
	for _, revs := range []string{main(10) + "\n", main(0) + "\n^" + main(20) + "\n", "v1\n^" + main(5) + "\n"} {
		install(t, objects, []byte(git(t, dir, revs, "pack-objects", "--revs", "--stdout", "-q")))
	}
	s, err := pack.OpenStore(4<<20, objects)
	if err != nil {
		t.Fatal(err)
	}
	if err := pack.Join(t.Context(), objects, s); err != nil {
		t.Fatal(err)
	}
	s.Close()
	joined := open(t, objects)
	if joined.Packs() != 1 {
		t.Fatalf("%d packs after joining", joined.Packs())
	}
	compare(t, dir, joined)
	git(t, filepath.Dir(objects), "", "fsck", "--full")
}

func BenchmarkObject(b *testing.B) {
	dir := history(b, 1000)
	objects := objectsDir(b)
	install(b, objects, packOf(b, dir, "--delta-base-offset"))
	var ids []pack.ID
	for line := range strings.Lines(git(b, dir, "", "rev-list", "--objects", "--no-object-names", "--all")) {
		id, err := pack.ParseID(strings.TrimSpace(line))
		if err != nil {
			b.Fatal(err)
		}
		ids = append(ids, id)
	}
	for b.Loop() {
		s := open(b, objects)
		var bytes int64
		for _, id := range ids {
			_, raw, err := s.Object(id)
			if err != nil {
				b.Fatal(err)
			}
			bytes += int64(len(raw))
		}
		b.SetBytes(bytes)
		b.ReportMetric(float64(len(ids)), "objects/op")
	}
}
