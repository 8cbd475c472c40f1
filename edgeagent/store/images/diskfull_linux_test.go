package images

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// TestDiskFull: an error that says so, what was kept stays, and when there is room again it goes on.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir, ctx := t.TempDir(), t.Context()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, 0)) })
	s, err := Open(dir, nil)
	must(t, err)
	must(t, s.SetTag(ctx, tagged("a", "v"), seen))
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	for err == nil {
		_, err = f.Write(make([]byte, 1024))
	}
	must(t, f.Close())
	long := slices.Repeat([]oci.Descriptor{{Digest: digest(1)}}, 2000)
	if err := s.SetReferrers(ctx, digested("a", 1), long); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v, want ENOSPC", err)
	}
	if got, err := s.Tag(ctx, tagged("a", "v")); err != nil || got != seen {
		t.Errorf("%+v, %v", got, err)
	}
	must(t, os.Remove(ballast))
	must(t, s.SetReferrers(ctx, digested("a", 1), long))
	must(t, s.Close())
	s, err = Open(dir, nil)
	must(t, err)
	if got, err := s.Referrers(ctx, digested("a", 1)); err != nil || len(got) != len(long) {
		t.Errorf("%d, %v", len(got), err)
	}
	must(t, s.Close())
}
