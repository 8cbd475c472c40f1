package source_test

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

// TestDiskFull fetches onto a file system of one megabyte.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mounting a small file system needs root: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	u := newUpstream(t)
	s := u.serve(gitserver.Config{Plain: true})
	cfg := config(t, s)
	cfg.Dir = filepath.Join(dir, "repo")
	c := newClient(t, cfg)
	before, _ := follow(t, c)
	blob(u, 2<<20)
	want, err := c.Poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err = c.Fetch(t.Context(), want)
		wantReason(t, err, condition.ReasonDiskFull)
		intact(t, cfg.Dir, before)
	}
	u.git("", "update-ref", "refs/heads/main", before.Tip)
	u.commit("main", 1)
	after, _ := follow(t, c) // what did not fit is not in the way
	intact(t, cfg.Dir, after)
}
