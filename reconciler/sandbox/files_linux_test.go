package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

// withoutCgo runs the test again in a program built as Holdfast's are, if this one is not.
func withoutCgo(t *testing.T) (done bool) {
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPPID, 0, 0, 0); errno != syscall.ENOTSUP {
		return false
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count", "1", "-run", "^"+t.Name()+"$", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return true
}

func landlocked(t *testing.T) {
	t.Helper()
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 {
		t.Skipf("this kernel has no Landlock: %v", errno)
	}
}

func TestFilesOnlyWhereAskedFor(t *testing.T) {
	landlocked(t)
	if withoutCgo(t) {
		return
	}
	dir, other := t.TempDir(), t.TempDir()
	for _, folder := range []string{dir, other} {
		if err := os.WriteFile(filepath.Join(folder, "there"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	memory := fmt.Sprintf("/proc/%d/mem", os.Getpid())
	for _, c := range []struct {
		do, name string
		lim      sandbox.Limits
		ok       bool
	}{
		{"read", dir + "/there", sandbox.Limits{Read: dir}, true},
		{"read", dir + "/there", sandbox.Limits{Write: dir}, true},
		{"read", dir + "/there", sandbox.Limits{}, false},
		{"read", other + "/there", sandbox.Limits{Read: dir}, false},
		{"read", dir + "/../" + filepath.Base(other) + "/there", sandbox.Limits{Read: dir}, false},
		{"read", "/etc/passwd", sandbox.Limits{Network: true, Write: dir}, false},
		{"read", "/etc/hosts", sandbox.Limits{Network: true}, true},
		{"read", "/etc/hosts", sandbox.Limits{}, false},
		{"read", memory, sandbox.Limits{Network: true, Write: dir}, false},
		{"touch", dir + "/new", sandbox.Limits{Write: dir}, true},
		{"touch", dir + "/there", sandbox.Limits{Read: dir}, false},
		{"touch", other + "/new", sandbox.Limits{Write: dir}, false},
		{"touch", memory, sandbox.Limits{Write: dir}, false},
	} {
		t.Run(fmt.Sprintf("%s %s %+v", c.do, strings.ReplaceAll(c.name, "/", "_"), c.lim), func(t *testing.T) {
			_, err := sandbox.Run(t.Context(), c.do, c.lim, newReader(c.name))
			if (err == nil) != c.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOthersStayAlone(t *testing.T) {
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, do := range []string{"chmod", "kill"} {
		_, err := sandbox.Run(t.Context(), do, sandbox.Limits{Network: true, Write: filepath.Dir(name)}, newReader(name))
		var e *sandbox.Error
		if !errors.As(err, &e) || !strings.Contains(e.Text, fs.ErrPermission.Error()) && !strings.Contains(e.Text, "operation not permitted") {
			t.Errorf("%s: %v", do, err)
		}
	}
}

// TestOutputHeldByAnother: a child's pipe may stay open for a while after its end, because another process has it, too.
func TestOutputHeldByAnother(t *testing.T) {
	out, err := sandbox.Run(t.Context(), "fork", sandbox.Limits{}, nil)
	if err != nil || string(out) != "done" {
		t.Fatalf("got %q, %v", out, err)
	}
}

// forkAndEnd leaves a copy of this process that holds its pipes for longer than a second. The copy has one thread and no Go
// runtime to speak of, so it makes two raw system calls and no more.
//
//go:norace
func forkAndEnd(_ context.Context, _ io.Reader, w io.Writer) error {
	pause := unix.Timespec{Sec: 1, Nsec: 500_000_000}
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno == 0 && pid == 0 {
		unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	if errno != 0 {
		return errno
	}
	_, err := io.WriteString(w, "done")
	return err
}
