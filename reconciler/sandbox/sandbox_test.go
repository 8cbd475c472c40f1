package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

type greeting struct{ Name, Text string }

var sink [][]byte

func TestMain(m *testing.M) {
	sandbox.Main(map[string]sandbox.Func{
		"greet": sandbox.Serve(func(_ context.Context, g greeting) (greeting, error) {
			g.Text = "hello " + g.Name
			return g, nil
		}),
		"refuse": func(context.Context, io.Reader, io.Writer) error { return errors.New("fleet.cue:3:1: no") },
		"memory": func(context.Context, io.Reader, io.Writer) error {
			for range 4096 {
				b := make([]byte, 1<<20)
				for i := range b {
					b[i] = 1
				}
				sink = append(sink, b)
			}
			return nil
		},
		"spin": func(context.Context, io.Reader, io.Writer) error {
			for i := 0; ; i++ {
				_ = i
			}
		},
		"hang": func(context.Context, io.Reader, io.Writer) error { <-time.After(time.Hour); return nil },
		// The last words of a program whose garbage collector was refused memory, and of one with a bug.
		"collector": func(context.Context, io.Reader, io.Writer) error {
			fmt.Fprint(os.Stderr, "SIGSEGV: segmentation violation\nPC=0x439fbd m=7 sigcode=1 addr=0x0\n\n")
			os.Exit(2)
			return nil
		},
		"nil": func(context.Context, io.Reader, io.Writer) error {
			var g *greeting
			g.Name = "x"
			return nil
		},
		"panic": func(context.Context, io.Reader, io.Writer) error { panic("boom") },
		"flood": func(_ context.Context, _ io.Reader, w io.Writer) error {
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return err
				}
			}
		},
		"dial": func(_ context.Context, r io.Reader, w io.Writer) error {
			addr, _ := io.ReadAll(r)
			c, err := net.Dial("tcp", string(addr))
			if err != nil {
				return err
			}
			return c.Close()
		},
		"exec": func(context.Context, io.Reader, io.Writer) error { return exec.Command("/bin/true").Run() },
		"file": func(_ context.Context, r io.Reader, _ io.Writer) error {
			name, _ := io.ReadAll(r)
			return os.WriteFile(string(name), make([]byte, 2<<20), 0o600)
		},
		"touch": func(_ context.Context, r io.Reader, _ io.Writer) error {
			name, _ := io.ReadAll(r)
			return os.WriteFile(string(name), nil, 0o600)
		},
		"read": func(_ context.Context, r io.Reader, _ io.Writer) error {
			name, _ := io.ReadAll(r)
			f, err := os.Open(string(name))
			if err != nil {
				return err
			}
			return f.Close()
		},
		"chmod": func(_ context.Context, r io.Reader, _ io.Writer) error {
			name, _ := io.ReadAll(r)
			return os.Chmod(string(name), 0o666)
		},
		"fork": forkAndEnd,
		"kill": func(context.Context, io.Reader, io.Writer) error { return syscall.Kill(os.Getppid(), 0) },
		"env": func(_ context.Context, _ io.Reader, w io.Writer) error {
			_, err := fmt.Fprint(w, os.Getenv("SECRET"))
			return err
		},
	})
	os.Exit(m.Run())
}

func TestCall(t *testing.T) {
	got, err := sandbox.Call[greeting](t.Context(), "greet", sandbox.Limits{MemoryMB: 512}, greeting{Name: "node"})
	if err != nil || got.Text != "hello node" {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		name string
		lim  sandbox.Limits
		want error
	}{
		{"memory", sandbox.Limits{MemoryMB: 128}, sandbox.ErrMemory},
		{"collector", sandbox.Limits{MemoryMB: 512}, sandbox.ErrMemory},
		{"spin", sandbox.Limits{CPU: time.Second}, sandbox.ErrCPU},
		{"hang", sandbox.Limits{Timeout: 300 * time.Millisecond}, sandbox.ErrTimeout},
		{"flood", sandbox.Limits{MaxOutput: 1 << 20}, sandbox.ErrOutput},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := sandbox.Run(t.Context(), c.name, c.lim, nil); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestFuncErrorCrossesOver(t *testing.T) {
	_, err := sandbox.Run(t.Context(), "refuse", sandbox.Limits{}, nil)
	var e *sandbox.Error
	if !errors.As(err, &e) || e.Text != "fleet.cue:3:1: no" {
		t.Fatalf("got %v", err)
	}
}

func TestPanicIsAnError(t *testing.T) {
	for _, name := range []string{"panic", "nil"} {
		_, err := sandbox.Run(t.Context(), name, sandbox.Limits{}, nil)
		if err == nil || errors.Is(err, sandbox.ErrMemory) {
			t.Fatalf("%s: got %v", name, err)
		}
	}
}

func TestNetworkOnlyWhenAskedFor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	in := func() io.Reader { return newReader(addr) }
	if _, err := sandbox.Run(t.Context(), "dial", sandbox.Limits{}, in()); err == nil {
		t.Fatal("a child without network reached a port")
	}
	if _, err := sandbox.Run(t.Context(), "dial", sandbox.Limits{Network: true}, in()); err != nil {
		t.Fatalf("a child with network: %v", err)
	}
}

func TestNoPrograms(t *testing.T) {
	if _, err := sandbox.Run(t.Context(), "exec", sandbox.Limits{Network: true}, nil); err == nil {
		t.Fatal("a child ran a program")
	}
}

func TestFileBound(t *testing.T) {
	name := filepath.Join(t.TempDir(), "big")
	if _, err := sandbox.Run(t.Context(), "file", sandbox.Limits{FileMB: 4, Write: filepath.Dir(name)}, newReader(name)); err != nil {
		t.Fatal(err)
	}
	if _, err := sandbox.Run(t.Context(), "file", sandbox.Limits{FileMB: 1, Write: filepath.Dir(name)}, newReader(name)); err == nil {
		t.Fatal("a child wrote a file over its bound")
	}
}

func TestEnvironmentStaysBehind(t *testing.T) {
	t.Setenv("SECRET", "hunter2")
	out, err := sandbox.Run(t.Context(), "env", sandbox.Limits{}, nil)
	if err != nil || len(out) != 0 {
		t.Fatalf("got %q, %v", out, err)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sandbox.Run(ctx, "hang", sandbox.Limits{}, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func newReader(s string) io.Reader { return strings.NewReader(s) }
