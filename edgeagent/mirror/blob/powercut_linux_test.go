package blob

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// A file system that loses power keeps what was flushed. Of the rest it may keep anything, so the two worst cases are tried: that it
// kept nothing, and that it kept names and lengths but not the bytes.

// inode is a file, and what of it was flushed.
type inode struct{ flushed []byte }

// flushes watches a folder and knows what of it would survive.
type flushes struct {
	dir    string
	inodes map[uint64]*inode // of the files that have a name now
	names  map[string]*inode // that were flushed with their folder; nil is a folder
	before []string          // the operation that has happened since the last step
	each   func(op string)   // told when the power could go
}

func newFlushes(dir string, each func(op string)) *flushes {
	return &flushes{dir: dir, inodes: map[uint64]*inode{}, names: map[string]*inode{dir: nil}, each: each}
}

func (f *flushes) step(op, path string) error {
	f.settle()
	f.each(op + " " + strings.TrimPrefix(path, f.dir))
	f.before = []string{op, path}
	return nil
}

// settle notes what the last operation made to last.
func (f *flushes) settle() {
	live := f.live()
	if f.before != nil && f.before[0] == "fsync" {
		path := f.before[1]
		if node, isFile := live[path]; isFile && node != nil {
			data, err := os.ReadFile(path)
			if err != nil {
				panic(err)
			}
			node.flushed = data
		} else {
			maps.DeleteFunc(f.names, func(name string, _ *inode) bool { return filepath.Dir(name) == path })
			for name, node := range live {
				if filepath.Dir(name) == path {
					f.names[name] = node
				}
			}
		}
	}
	f.before = nil
}

// live lists what has a name now, folders with nil, and forgets the numbers of files that have none.
func (f *flushes) live() map[string]*inode {
	live, numbers := map[string]*inode{}, map[uint64]*inode{}
	err := filepath.WalkDir(f.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			live[path] = nil
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		number := info.Sys().(*syscall.Stat_t).Ino
		node := f.inodes[number]
		if node == nil {
			node = &inode{}
		}
		live[path], numbers[number] = node, node
		return nil
	})
	if err != nil {
		panic(err)
	}
	f.inodes = numbers
	return live
}

// survive writes what a power cut leaves now into another folder.
func (f *flushes) survive(t testing.TB, to string, namesToo bool) {
	t.Helper()
	names := f.names
	if namesToo {
		names = f.live()
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		path := to + strings.TrimPrefix(name, f.dir)
		if _, err := os.Stat(filepath.Dir(path)); err != nil && name != f.dir {
			continue // its folder is lost
		}
		node := names[name]
		if node == nil {
			must(t, os.MkdirAll(path, 0o700))
			continue
		}
		data := slices.Clone(node.flushed)
		if missing := fileSize(name) - int64(len(data)); namesToo && missing > 0 {
			data = append(data, make([]byte, missing)...)
		}
		must(t, os.WriteFile(path, data, 0o600))
	}
}

// TestPowerCutAtEveryStep cuts the power before each operation on the disk, in both ways. What Commit said is there is there; nothing
// is there that is wrong; a download goes on from its last checkpoint and ends right at the first try.
func TestPowerCutAtEveryStep(t *testing.T) {
	for _, namesToo := range []bool{false, true} {
		t.Run(fmt.Sprintf("names too: %v", namesToo), func(t *testing.T) {
			dir := t.TempDir()
			var safe int64
			committed, cuts := map[oci.Digest][]byte{}, 0
			f := newFlushes(dir, nil)
			f.each = func(op string) {
				cuts++
				left := t.TempDir()
				f.survive(t, left, namesToo)
				afterPowerCut(t, left, op, safe, committed)
			}
			tuned := small(dir)
			tuned.disk.step = f.step
			s, err := open(dir, Options{}, tuned)
			must(t, err)
			small, sd := content(2, 300)
			must(t, s.Put(sd, small))
			committed[sd] = small
			data, d := content(1, downloadSize)
			w := writer(t, s, d, downloadSize)
			for p := range slices.Chunk(data, 2000) {
				write(t, w, p)
				w.mu.Lock()
				must(t, w.collectCheckpoint(true))
				safe = w.durable
				w.mu.Unlock()
			}
			if safe < 12_000 {
				t.Fatalf("only %d bytes were safe at the end", safe)
			}
			must(t, w.Commit())
			committed[d], safe = data, 0
			must(t, s.Close())
			f.settle()
			f.each("the end")
			if cuts < 40 {
				t.Errorf("only %d cuts", cuts)
			}
		})
	}
}

// afterPowerCut opens what is left, in another boot, and finishes what was begun.
func afterPowerCut(t *testing.T, dir, op string, safe int64, committed map[oci.Digest][]byte) {
	t.Helper()
	tuned := small(dir)
	tuned.boot = "the next"
	s, err := open(dir, Options{}, tuned)
	must(t, err)
	defer s.Close()
	for d, data := range committed {
		if _, err := s.Stat(d); err != nil {
			t.Fatalf("before %s: %v, and it was committed", op, err)
		}
		wantBlob(t, s, d, data)
	}
	for info, err := range s.All(t.Context(), oci.Digest{}) {
		must(t, err)
		if err := s.Verify(t.Context(), info.Digest); err != nil {
			t.Fatalf("before %s: %v", op, err)
		}
	}
	data, d := content(1, downloadSize)
	w, err := s.Writer(d)
	if errors.Is(err, ErrExists) {
		return
	}
	must(t, err)
	if w.Offset() < safe {
		t.Fatalf("before %s: goes on at %d, %d were safe", op, w.Offset(), safe)
	}
	must(t, w.Expect(t.Context(), downloadSize))
	if rest := data[w.Offset():]; len(rest) > 0 {
		write(t, w, rest)
	}
	must(t, w.Commit())
	wantBlob(t, s, d, data)
	wantUsage(t, s)
}
