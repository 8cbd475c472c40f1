//go:build e2e

package autonomy

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/test/lab"
)

// TestRebootInTrouble cuts the link and the power again and again, with one more thing wrong each time. Whatever it is, the pods come
// back, and when the link does, they are the same.
func TestRebootInTrouble(t *testing.T) {
	s := newSite(t, lab.Options{})
	s.deploy("workload.yaml", 12)
	s.deploy("tills.yaml", 12)
	s.watcherSees("shop/till-1", "shop/till-2")
	before := s.pods()
	for _, c := range []struct {
		name string
		// harm happens while the power is off.
		harm func(s *site)
		// services: they follow the pods. An expired token authenticates nobody, and kube-proxy has nothing else.
		services bool
	}{
		{"the clock two years back", func(s *site) { s.clock = -2 * 365 * 24 * time.Hour }, true},
		// Every token and the upstream certificate have expired for this agent.
		{"the clock twenty years ahead", func(s *site) { s.clock = 20 * 365 * 24 * time.Hour }, false},
		{"a truncated cache", func(s *site) { s.harmCache(truncate) }, true},
		{"a flipped bit", func(s *site) { s.harmCache(flip) }, true},
		{"a full disk", func(s *site) { s.fillDisk() }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := *s
			in.TB = t
			in.autonomous()
			t.Cleanup(func() { in.must(in.link.Restore()) })
			in.must(in.link.Cut())
			in.crash()
			c.harm(&in)
			in.boot()
			in.runs(3*time.Minute, containersOf(before))
			in.streams(before)
			if c.services {
				in.serviceAnswers("web", named(before, "web-")...)
			}
			if in.clock != 0 { // a wrong clock is put right before the link is there again
				in.must(in.lab.Stop("agent"))
				in.clock = 0
				in.runAgent()
			}
			in.must(in.link.Restore())
			in.sameAs(before)
			in.runs(time.Second, containersOf(before))
		})
	}
}

// harmCache changes the file of the cache.
func (s *site) harmCache(harm func(*site, *os.File, int64)) {
	s.Helper()
	f, err := os.OpenFile(filepath.Join(s.state, "cache", "cache.db"), os.O_RDWR, 0)
	s.must(err)
	defer f.Close()
	info, err := f.Stat()
	s.must(err)
	harm(s, f, info.Size())
}

func truncate(s *site, f *os.File, size int64) {
	s.Helper()
	s.must(f.Truncate(size * 2 / 3))
}

func flip(s *site, f *os.File, size int64) {
	s.Helper()
	for at := size / 3; at < size; at += size / 3 {
		var b [1]byte
		_, err := f.ReadAt(b[:], at)
		s.must(err)
		b[0] ^= 0x10
		_, err = f.WriteAt(b[:], at)
		s.must(err)
	}
}

// fillDisk has the state folder on a file system of its own that is full, until the test ends.
func (s *site) fillDisk() {
	s.Helper()
	small := s.state + ".small"
	s.must(os.MkdirAll(small, 0o700))
	s.must(syscall.Mount("tmpfs", small, "tmpfs", 0, "size=64m"))
	s.must(os.Remove(filepath.Join(s.state, "control.sock"))) // left behind by the killed agent, and nothing to copy
	s.must(os.CopyFS(small, os.DirFS(s.state)))
	s.must(syscall.Mount(small, s.state, "", syscall.MS_BIND, ""))
	ballast, err := os.Create(filepath.Join(small, "ballast"))
	s.must(err)
	for err == nil {
		_, err = ballast.Write(make([]byte, 4096))
	}
	s.must(ballast.Close())
	s.Cleanup(func() {
		s.must(s.lab.Stop("agent"))
		s.must(syscall.Unmount(s.state, 0))
		s.must(syscall.Unmount(small, 0))
		s.runAgent()
	})
}
