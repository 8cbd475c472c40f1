package store

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// TestDiskFull fills a file system of its own: what was accepted stays, the error says DiskFull, and there is nothing to
// mend when there is room again.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=160k"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	if err := Create(dir, enrolment, trustAt(0)); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	t.Cleanup(func() { s.Close() })
	if err := s.Accept(trustAt(1), inForceAt(1)); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	fill, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = fill.Write(make([]byte, 4096))
	}
	fill.Close()
	var e *Error
	if err := s.Accept(trustAt(2), inForceAt(2)); !errors.As(err, &e) || e.Reason != condition.ReasonDiskFull {
		t.Fatalf("got %v", err)
	}
	if n := consistent(t, s.State()); n != 1 {
		t.Fatalf("revision %d after a refused write", n)
	}
	s.Close()
	s = open(t, dir)
	if n := consistent(t, s.State()); n != 1 {
		t.Fatalf("revision %d after reopening", n)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := s.Accept(trustAt(2), inForceAt(2)); err != nil {
		t.Fatal(err)
	}
	if n := consistent(t, s.State()); n != 2 {
		t.Fatalf("revision %d when there is room again", n)
	}
	s.Close()
}
