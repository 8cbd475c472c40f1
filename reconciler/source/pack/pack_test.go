package pack_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/source/pack"
)

var bounds = pack.Bounds{Bytes: 64 << 20, ObjectBytes: 4 << 20, InflatedBytes: 1 << 30, Objects: 100_000}

// git runs git in dir and gives its output.
func git(tb testing.TB, dir, stdin string, args ...string) string {
	tb.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null")
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("git %v: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

// history makes a repository whose packs have many deltas: a file of some size that changes a little n times.
func history(tb testing.TB, n int) (dir string) {
	tb.Helper()
	dir = tb.TempDir()
	git(tb, dir, "", "init", "-q", "-b", "main")
	var lines []string
	for i := range 400 {
		lines = append(lines, fmt.Sprintf("line %d of a file that deltas well", i))
	}
	var stream bytes.Buffer
	for i := range n {
		lines[i*7%len(lines)] = fmt.Sprintf("changed in %d", i)
		text := strings.Join(lines, "\n")
		msg := fmt.Sprintf("change %d", i)
		fmt.Fprintf(&stream, "commit refs/heads/main\ncommitter t <t@example.com> %d +0000\ndata %d\n%s\n", 1700000000+i, len(msg), msg)
		fmt.Fprintf(&stream, "M 100644 inline pools/a/%d.cue\ndata %d\n%s\n", i%20, len(text), text)
		fmt.Fprintf(&stream, "M 100644 inline fleet.cue\ndata %d\n%s\n\n", len(text), text)
	}
	git(tb, dir, stream.String(), "fast-import", "--quiet")
	git(tb, dir, "", "tag", "-a", "v1", "-m", "one", "main")
	return dir
}

// packOf gives a pack of everything in a repository.
func packOf(tb testing.TB, dir string, args ...string) []byte {
	tb.Helper()
	return []byte(git(tb, dir, "", append([]string{"pack-objects", "--all", "--revs", "--stdout", "-q"}, args...)...))
}

// objectsDir makes an empty bare repository and gives its objects folder.
func objectsDir(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	git(tb, dir, "", "init", "-q", "--bare")
	return filepath.Join(dir, "objects")
}

// receive reads a pack into a temporary file of an objects folder.
func receive(tb testing.TB, objects string, raw []byte, b pack.Bounds) (*os.File, *pack.Received, error) {
	tb.Helper()
	f, err := pack.Temp(objects)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	got, err := pack.Receive(tb.Context(), bytes.NewReader(raw), f, b)
	return f, got, err
}

// install receives and installs a pack.
func install(tb testing.TB, objects string, raw []byte) *pack.Received {
	tb.Helper()
	f, got, err := receive(tb, objects, raw, bounds)
	if err != nil {
		tb.Fatal(err)
	}
	if err := pack.Install(objects, f, got); err != nil {
		tb.Fatal(err)
	}
	return got
}

func open(tb testing.TB, objects ...string) *pack.Store {
	tb.Helper()
	s, err := pack.OpenStore(4<<20, objects...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

// compare makes sure that the store gives every object that git has, and the same bytes and sizes.
func compare(t *testing.T, dir string, s *pack.Store) {
	t.Helper()
	list := git(t, dir, "", "cat-file", "--batch-check", "--batch-all-objects")
	n := 0
	for line := range strings.Lines(list) {
		var text, kind string
		var size int64
		if _, err := fmt.Sscan(line, &text, &kind, &size); err != nil {
			t.Fatal(err)
		}
		id, err := pack.ParseID(text)
		if err != nil {
			t.Fatal(err)
		}
		if k, n, err := s.Size(id); err != nil || k.String() != kind || n != size {
			t.Fatalf("size of %s: %s %d %v, want %s %d", text, k, n, err, kind, size)
		}
		k, raw, err := s.Object(id)
		if err != nil || k.String() != kind || int64(len(raw)) != size {
			t.Fatalf("%s: %s of %d bytes, %v; want %s of %d", text, k, len(raw), err, kind, size)
		}
		n++
	}
	if n < 10 {
		t.Fatalf("compared %d objects only", n)
	}
}

func TestReceiveWhatGitSends(t *testing.T) {
	dir := history(t, 150)
	for name, args := range map[string][]string{
		"deltas by distance": {"--delta-base-offset", "--depth=60", "--window=20"},
		"deltas by id":       {"--depth=60", "--window=20"},
		"no deltas":          {"--depth=0"},
	} {
		t.Run(name, func(t *testing.T) {
			objects := objectsDir(t)
			got := install(t, objects, packOf(t, dir, args...))
			if len(got.Needs) != 0 {
				t.Fatalf("a complete pack needs %v", got.Needs)
			}
			if len(got.Commits) != 150 {
				t.Fatalf("%d commits", len(got.Commits))
			}
			compare(t, dir, open(t, objects))
			git(t, filepath.Dir(objects), "", "fsck", "--full", "--strict")
		})
	}
}

func TestNeedsWhatIsNotThere(t *testing.T) {
	dir := history(t, 20)
	old := strings.TrimSpace(git(t, dir, "", "rev-parse", "main~5"))
	raw := []byte(git(t, dir, "main\n^"+old+"\n", "pack-objects", "--revs", "--stdout", "-q"))
	_, got, err := receive(t, objectsDir(t), raw, bounds)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, id := range got.Needs {
		found = found || id.String() == old
	}
	if !found {
		t.Fatalf("the parent %s is not among what is needed: %v", old, got.Needs)
	}
}

// writer makes packs that git would not.
type writer struct {
	bytes.Buffer
	count uint32
}

func (w *writer) entry(kind byte, size int64, base []byte, body io.Reader) {
	w.count++
	c := kind<<4 | byte(size&15)
	for size >>= 4; size > 0; size >>= 7 {
		w.WriteByte(c | 0x80)
		c = byte(size & 0x7f)
	}
	w.WriteByte(c)
	w.Write(base)
	z := zlib.NewWriter(w)
	_, _ = io.Copy(z, body)
	z.Close()
}

func (w *writer) pack() []byte {
	out := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), w.count)
	out = append(out, w.Bytes()...)
	sum := sha1.Sum(out)
	return append(out, sum[:]...)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func varint(n int64) (out []byte) {
	for ; n > 0x7f; n >>= 7 {
		out = append(out, byte(n)|0x80)
	}
	return append(out, byte(n))
}

// bomb is a delta that makes size bytes out of a base of 64 KiB.
func bomb(base, size int64) []byte {
	d := append(varint(base), varint(size)...)
	for ; size >= 0x10000; size -= 0x10000 {
		d = append(d, 0x80) // copy 64 KiB from offset 0
	}
	return d
}

func TestBounds(t *testing.T) {
	small := bounds
	small.InflatedBytes = 3 << 20
	few := bounds
	few.Objects = 5
	tight := bounds
	tight.Bytes = 1000
	for name, c := range map[string]struct {
		bounds pack.Bounds
		want   error
		build  func(w *writer)
	}{
		"a blob of 1 GiB": {bounds, pack.ErrTooLarge, func(w *writer) { w.entry(3, 1<<30, nil, io.LimitReader(zeros{}, 1<<20)) }},
		"a blob that is larger than it says": {bounds, pack.ErrInvalid, func(w *writer) {
			w.entry(3, 10, nil, io.LimitReader(zeros{}, 64<<20))
		}},
		"a delta that makes 1 GiB": {bounds, pack.ErrTooLarge, func(w *writer) {
			w.entry(3, 1<<16, nil, io.LimitReader(zeros{}, 1<<16))
			d := bomb(1<<16, 1<<30)
			w.entry(6, int64(len(d)), []byte{byte(w.Len() % 128)}, bytes.NewReader(d))
		}},
		"many objects that are too much together": {small, pack.ErrTooLarge, func(w *writer) {
			for range 4 {
				w.entry(3, 1<<20, nil, io.LimitReader(zeros{}, 1<<20))
			}
		}},
		"too many objects":    {few, pack.ErrTooLarge, func(w *writer) { w.count = 6 }},
		"more bytes than fit": {tight, pack.ErrNoRoom, func(w *writer) { w.entry(3, 4000, nil, io.LimitReader(rand.NewChaCha8([32]byte{}), 4000)) }},
		"a delta on itself":   {bounds, pack.ErrInvalid, func(w *writer) { w.entry(6, 2, []byte{0}, bytes.NewReader([]byte{0, 0})) }},
		"a base that is nowhere": {bounds, pack.ErrInvalid, func(w *writer) {
			d := bomb(1<<16, 1<<16)
			w.entry(7, int64(len(d)), make([]byte, 20), bytes.NewReader(d))
		}},
		"a base in the middle of an entry": {bounds, pack.ErrInvalid, func(w *writer) {
			w.entry(3, 1<<16, nil, io.LimitReader(zeros{}, 1<<16))
			d := bomb(1<<16, 1<<16)
			w.entry(6, int64(len(d)), []byte{3}, bytes.NewReader(d))
		}},
		"an unknown kind":        {bounds, pack.ErrInvalid, func(w *writer) { w.entry(5, 1, nil, strings.NewReader("x")) }},
		"a tree that is no tree": {bounds, pack.ErrInvalid, func(w *writer) { w.entry(2, 5, nil, strings.NewReader("hello")) }},
		"a commit without tree":  {bounds, pack.ErrInvalid, func(w *writer) { w.entry(1, 5, nil, strings.NewReader("hello")) }},
	} {
		t.Run(name, func(t *testing.T) {
			var w writer
			c.build(&w)
			raw := w.pack()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f, _, err := receive(t, objectsDir(t), raw, c.bounds)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
				t.Errorf("allocated %d MB", got>>20)
			}
			if info, err := f.Stat(); err != nil || info.Size() > c.bounds.Bytes {
				t.Errorf("stored %d bytes, %v", info.Size(), err)
			}
		})
	}
}

// TestAlteredPacks flips, cuts and adds bytes: each must be an error, never a crash and never other objects.
func TestAlteredPacks(t *testing.T) {
	raw := packOf(t, history(t, 30), "--delta-base-offset")
	rnd := rand.New(rand.NewPCG(1, 2))
	objects := objectsDir(t)
	for i := range 400 {
		bad := bytes.Clone(raw)
		switch i % 4 {
		case 0:
			bad = bad[:rnd.IntN(len(bad))]
		case 1:
			bad = append(bad, byte(i))
		default:
			bad[rnd.IntN(len(bad))] ^= byte(1 << rnd.IntN(8))
		}
		if i%4 == 3 { // with a checksum that is right: the sender wants it so
			sum := sha1.Sum(bad[:len(bad)-20])
			bad = append(bad[:len(bad)-20], sum[:]...)
			if bytes.Equal(bad, raw) {
				continue
			}
		}
		f, got, err := receive(t, objects, bad, bounds)
		if err == nil && i%4 != 3 {
			t.Fatalf("alteration %d was not noticed", i)
		}
		if err == nil && len(got.Needs) == 0 && bad[11] == raw[11] {
			t.Fatalf("alteration %d gave a complete history of other objects", i)
		}
		os.Remove(f.Name())
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f, err := pack.Temp(objectsDir(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := pack.Receive(ctx, bytes.NewReader(packOf(t, history(t, 3))), f, bounds); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}
