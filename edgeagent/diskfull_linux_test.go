package edgeagent

import (
	"os"
	"syscall"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	n := enrolled(t, "berlin")
	n.f.push(pool("berlin", "7", "n1"))
	n.must(n.poll())
	n.a.keepNow()
	n.must(n.a.Close())
	n.a = nil
	small := t.TempDir()
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(small, 0); err != nil {
			t.Error(err)
		}
	}()
	n.must(os.CopyFS(small+"/s", os.DirFS(n.state)))
	n.state = small + "/s"
	n.open()
	ballast, err := os.Create(small + "/ballast")
	n.must(err)
	for err == nil {
		_, err = ballast.Write(make([]byte, 1024))
	}
	ballast.Close()
	n.f.push(pool("berlin", "8", "n1"))
	if n.poll() == nil {
		t.Fatal("the follow loop is to back off")
	}
	n.inForce("7")
	n.want(condition.StateReady, "False "+condition.ReasonDiskFull)
	n.must(os.Remove(small + "/ballast"))
	n.must(n.poll())
	n.inForce("8")
	n.want(condition.StateReady, "True "+condition.ReasonStored)
	n.must(n.a.Close())
}
