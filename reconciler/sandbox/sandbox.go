// Package sandbox runs one function of this program in a child process with limits of its own, because fetching,
// parsing packs and evaluating CUE handle input from elsewhere: what they use up or break must not be the agent's.
//
// The child is this same binary. It bounds itself before it reads anything: memory (RLIMIT_DATA and GOMEMLIMIT),
// processor time, file size, no core dump, no new programs and, unless asked for, no network (a seccomp filter) and no files
// (Landlock, where the kernel has it). None of it needs a privilege. What crosses over is JSON on its standard input and output.
package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// Func is what a child runs: it reads its input to the end and writes its output. An error's text reaches the caller
// as an *Error.
type Func func(ctx context.Context, in io.Reader, out io.Writer) error

// Limits bound one child. A zero means: no bound of that kind, but for Timeout and MaxOutput, which have defaults.
type Limits struct {
	// MemoryMB bounds writable memory, in MiB.
	MemoryMB int64 `json:"memoryMB,omitempty"`
	// CPU bounds processor time; it counts in whole seconds, rounded up.
	CPU time.Duration `json:"cpu,omitempty"`
	// FileMB bounds each file the child writes, in MiB.
	FileMB int64 `json:"fileMB,omitempty"`
	// Network permits sockets, and reading what finding and trusting a server takes.
	Network bool `json:"network,omitempty"`
	// Read is the one folder the child may read, Write the one it may write. It opens no files elsewhere.
	Read  string `json:"read,omitempty"`
	Write string `json:"write,omitempty"`
	// Timeout bounds wall time; 0 means two minutes.
	Timeout time.Duration `json:"timeout,omitempty"`
	// MaxOutput bounds the output in bytes; 0 means 64 MiB.
	MaxOutput int64 `json:"maxOutput,omitempty"`
}

// What a child can die of. Match with errors.Is.
var (
	ErrMemory  = errors.New("out of memory")
	ErrCPU     = errors.New("out of processor time")
	ErrTimeout = errors.New("out of time")
	ErrOutput  = errors.New("too much output")
)

// Error is an error that the function returned in the child.
type Error struct{ Text string }

func (e *Error) Error() string { return e.Text }

// argPrefix marks a child's first argument. It is followed by the function's name; the limits come second.
const argPrefix = "holdfast-child:"

// Exit codes between child and parent.
const (
	exitFuncError = 101
	exitSetup     = 102
	exitCPU       = 103
)

// Main runs the function a parent asked for and ends the process, if this process is a child; else it returns at once.
// Call it first in main and in TestMain.
func Main(funcs map[string]Func) {
	if len(os.Args) != 3 || len(os.Args[1]) <= len(argPrefix) || os.Args[1][:len(argPrefix)] != argPrefix {
		return
	}
	name := os.Args[1][len(argPrefix):]
	f, ok := funcs[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "no sandboxed function %q in this program", name)
		os.Exit(exitSetup)
	}
	var lim Limits
	err := json.Unmarshal([]byte(os.Args[2]), &lim)
	if err == nil {
		err = confine(lim)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "confine child: %v", err)
		os.Exit(exitSetup)
	}
	if err := f(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprint(os.Stderr, err)
		os.Exit(exitFuncError)
	}
	os.Exit(0)
}

// Call runs the named function in a child: in goes over as JSON, what comes back is decoded into Out. It is safe for
// concurrent use; every call has its own process. The child ends when ctx does.
func Call[Out any](ctx context.Context, name string, lim Limits, in any) (Out, error) {
	var out Out
	body, err := json.Marshal(in)
	if err != nil {
		return out, fmt.Errorf("encode input of %s: %w", name, err)
	}
	raw, err := Run(ctx, name, lim, bytes.NewReader(body))
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, fmt.Errorf("decode output of %s: %w", name, err)
	}
	return out, nil
}

// Serve makes a Func of a function with JSON input and output: the child's side of Call.
func Serve[In, Out any](f func(context.Context, In) (Out, error)) Func {
	return func(ctx context.Context, r io.Reader, w io.Writer) error {
		var in In
		if err := json.NewDecoder(r).Decode(&in); err != nil {
			return fmt.Errorf("decode input: %w", err)
		}
		out, err := f(ctx, in)
		if err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(out)
	}
}

// Run runs the named function in a child with in as its standard input and gives its output.
func Run(ctx context.Context, name string, lim Limits, in io.Reader) ([]byte, error) {
	if lim.Timeout == 0 {
		lim.Timeout = 2 * time.Minute
	}
	if lim.MaxOutput == 0 {
		lim.MaxOutput = 64 << 20
	}
	ctx, cancel := context.WithTimeoutCause(ctx, lim.Timeout, ErrTimeout)
	defer cancel()
	arg, err := json.Marshal(lim)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, argPrefix+name, string(arg))
	out := &bounded{max: lim.MaxOutput, stop: cancel}
	msg := &bounded{max: 64 << 10}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, msg
	cmd.Env = environment(lim)
	cmd.WaitDelay = lastWords
	cmd.SysProcAttr = procAttr()
	err = cmd.Run()
	if err == nil && !out.over {
		return out.buf.Bytes(), nil
	}
	return nil, diagnose(ctx, name, lim, cmd, out, msg, err)
}

// lastWords is how long after a child's end its output is waited for. That it is not complete at once has two causes: on a busy
// machine this process gets no turn, or another child, forked meanwhile and about to be executed, still holds the pipe.
const lastWords = time.Minute

// diagnose says why a child did not succeed.
func diagnose(ctx context.Context, name string, lim Limits, cmd *exec.Cmd, out, msg *bounded, err error) error {
	st := cmd.ProcessState
	switch {
	case out.over:
		return fmt.Errorf("%s: %w: over %d bytes", name, ErrOutput, lim.MaxOutput)
	case context.Cause(ctx) == ErrTimeout:
		return fmt.Errorf("%s: %w after %s", name, ErrTimeout, lim.Timeout)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", name, context.Cause(ctx))
	case st == nil:
		return fmt.Errorf("start %s: %w", name, err)
	case st.ExitCode() == exitFuncError:
		return &Error{Text: msg.buf.String()}
	case st.ExitCode() == exitSetup:
		return fmt.Errorf("%s: %s", name, msg.buf.String())
	case st.ExitCode() == exitCPU, lim.CPU > 0 && killed(st) && st.SystemTime()+st.UserTime() >= lim.CPU:
		return fmt.Errorf("%s: %w: over %s", name, ErrCPU, lim.CPU)
	case starved(msg.buf.Bytes()), killed(st):
		return fmt.Errorf("%s: %w: over %d MiB", name, ErrMemory, lim.MemoryMB)
	default:
		return fmt.Errorf("%s: %w: %s", name, err, firstLine(msg.buf.Bytes()))
	}
}

// starved tells from a child's last words whether it was refused memory: the runtime's two messages, its fault where it does not
// look (a nil dereference of ours is a panic, and says so), cgo's when there is no room for a thread's stack, and the race
// detector's.
func starved(msg []byte) bool {
	for _, words := range []string{"out of memory", "cannot allocate memory", "SIGSEGV: segmentation violation\n", "pthread_create failed", "ThreadSanitizer failed to allocate"} {
		if bytes.Contains(msg, []byte(words)) {
			return true
		}
	}
	return false
}

// environment gives the child's whole environment: nothing of the parent's but where to find the system's certificates. A
// child lives for a moment, so its heap may grow fivefold before it is swept (GOGC); GOMEMLIMIT makes it sweep more when
// memory gets short. Half of the limit is not too soon: the kernel counts what is mapped (setrlimit(2), RLIMIT_DATA), and Go
// maps its heap in arenas of 64 MiB, beside the threads' stacks.
func environment(lim Limits) []string {
	env := []string{"GOTRACEBACK=none", "GOGC=400"}
	if lim.MemoryMB > 0 {
		env = append(env, "GOMEMLIMIT="+strconv.FormatInt(lim.MemoryMB/2, 10)+"MiB")
	}
	env = append(env, buildEnvironment()...)
	for _, k := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR", "GOCOVERDIR"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// bounded keeps up to max bytes, then drops the rest and says so. It holds its buffer as a field, not embedded: an
// embedded bytes.Buffer would bring ReadFrom, which io.Copy prefers to Write.
type bounded struct {
	buf  bytes.Buffer
	max  int64
	over bool
	stop func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := b.max - int64(b.buf.Len()); int64(len(p)) > room {
		b.over = true
		if b.stop != nil {
			b.stop()
		}
		b.buf.Write(p[:room])
		return len(p), nil
	}
	return b.buf.Write(p)
}

func firstLine(b []byte) []byte {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return line
}
