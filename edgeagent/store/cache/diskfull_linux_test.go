package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// smallDisk mounts a file system of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func fillDisk(t *testing.T, dir string) (ballast string) {
	t.Helper()
	ballast = filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	return ballast
}

// TestDiskFull fills the disk: reads go on with what is newest, in memory up to a bound, then with a complete older state; nothing is
// queued that is not on disk; when there is room again everything is written.
func TestDiskFull(t *testing.T) {
	dir := smallDisk(t, "3m")
	c := open(t, dir, Options{GroupDelay: time.Hour, MaxPending: 64 << 10})
	first := []scope.Item{pod("a", 9), pod("b", 10)}
	c.Replace(nodePods, podList, "10", first)
	flush(t, c)
	ballast := fillDisk(t, dir)
	full := []scope.Item{item("v1", "Pod", "a", 11, strings.Repeat("x", 8<<10))}
	c.Replace(nodePods, podList, "11", full)
	if err := c.Flush(t.Context()); !isFull(err) {
		t.Fatalf("flush on a full disk: %v", err)
	}
	if reason, message := c.Condition(); reason != ReasonCacheDiskFull || !strings.Contains(message, "no space left") {
		t.Fatal(reason, message)
	}
	if err := c.Enqueue(t.Context(), "status", "n1", []byte(strings.Repeat("v", 8<<10))); !isFull(err) {
		t.Fatalf("enqueue on a full disk: %v", err)
	}
	holds(t, c, nodePods, "11", full...)
	// More than a quarter of what may wait: from now on the scope is behind.
	c.Apply(nodePods, "12", []scope.Event{put(item("v1", "Pod", "c", 12, strings.Repeat("y", 20<<10)))})
	if info, _ := c.Info(nodePods); !strings.Contains(info.Dirty, "no space left") || info.Version != "11" {
		t.Fatalf("%+v", info)
	}
	holds(t, c, nodePods, "11", full...)
	if s := c.Stats(); s.PendingBytes > 16<<10 {
		t.Fatalf("%d bytes wait in memory", s.PendingBytes)
	}
	copied := t.TempDir()
	for n, raw := range files(t, dir) {
		if err := os.WriteFile(filepath.Join(copied, n), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	after := open(t, copied, Options{}) // what a power cut would leave
	holds(t, after, nodePods, "10", first...)
	closed(t, after)

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	c.Replace(nodePods, podList, "13", full)
	flush(t, c)
	enqueue(t, c, "status", "n1", "value")
	if reason, message := c.Condition(); reason != ReasonCached {
		t.Fatal(reason, message)
	}
	closed(t, c)
	consistent(t, dir)
	c = open(t, dir, Options{})
	holds(t, c, nodePods, "13", full...)
	closed(t, c)
}

// TestDiskFullAtFirst makes a cache where there is no room for one: it works in memory, and is written when there is room.
func TestDiskFullAtFirst(t *testing.T) {
	dir := smallDisk(t, "1m")
	ballast := fillDisk(t, dir)
	c := open(t, dir, Options{GroupDelay: time.Hour})
	if reason, message := c.Condition(); reason != ReasonCacheDiskFull {
		t.Fatal(reason, message)
	}
	c.Replace(nodePods, podList, "10", []scope.Item{pod("a", 9)})
	c.PutDocument(node, "/api", Document{Body: []byte("d")})
	c.PutToken("t", []byte("token"))
	holds(t, c, nodePods, "10", pod("a", 9))
	if err := c.Enqueue(t.Context(), "status", "n1", []byte("v")); !isFull(err) {
		t.Fatalf("enqueue without a file: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	flush(t, c)
	enqueue(t, c, "status", "n1", "v")
	closed(t, c)
	c = open(t, dir, Options{})
	holds(t, c, nodePods, "10", pod("a", 9))
	if raw, ok, err := c.Token("t"); !ok || err != nil || string(raw) != "token" {
		t.Fatal(ok, err)
	}
	if d, ok, err := c.Document(node, "/api"); !ok || err != nil || string(d.Body) != "d" {
		t.Fatal(ok, err)
	}
	closed(t, c)
	consistent(t, dir)
}

// TestDamagedOnAFullDisk: a damaged cache that cannot be made anew for want of room is still no error, and is mended later.
func TestDamagedOnAFullDisk(t *testing.T) {
	dir := smallDisk(t, "4m")
	c := open(t, dir, Options{GroupDelay: time.Hour})
	c.Replace(nodePods, podList, "10", []scope.Item{pod("a", 9), pod("b", 10)})
	closed(t, c)
	raw := files(t, dir)[fileName]
	raw[2*os.Getpagesize()] ^= 0xff // the number of a page
	raw[3*os.Getpagesize()] ^= 0xff
	if err := os.WriteFile(filepath.Join(dir, fileName), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	ballast := fillDisk(t, dir)
	c = open(t, dir, Options{GroupDelay: time.Hour})
	if _, _, err := list(c, nodePods); !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	c.Replace(nodePods, podList, "20", []scope.Item{pod("c", 20)})
	flush(t, c)
	if reason, message := c.Condition(); reason != ReasonCacheRebuilt {
		t.Fatal(reason, message)
	}
	if _, err := os.Stat(filepath.Join(dir, damagedName)); err != nil {
		t.Fatal(fmt.Errorf("the damaged file was not set aside: %w", err))
	}
	holds(t, c, nodePods, "20", pod("c", 20))
	closed(t, c)
	consistent(t, dir)
}
