package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// processes are the programs one lab runs. Each leads a process group of its own, writes its output to logs/NAME.log and is
// recorded in pids/NAME, so that another process can end exactly these.
type processes struct {
	dir  string
	keep bool

	// mu guards running.
	mu      sync.Mutex
	running map[string]*Process
}

// Process is one running program of a lab.
type Process struct {
	// Name is its name in the lab.
	Name string
	// Log is the file of all it writes.
	Log string

	cmd *exec.Cmd
	// done is closed once the program has ended and was waited for.
	done chan struct{}
}

// Command describes a program that a test or the demo runs as part of a lab.
type Command struct {
	// Name is free in the lab. A program that ended frees its name.
	Name string
	Path string
	Args []string
	// Env is added to this process's environment.
	Env []string
	// Dir is its working directory; empty means the lab's folder.
	Dir string
}

// Run starts a program that belongs to the lab: its output goes to the lab's logs, and it ends with the lab.
func (l *Lab) Run(c Command) (*Process, error) { return l.procs.run(c) }

func newProcesses(dir string, keep bool) *processes {
	return &processes{dir: dir, keep: keep, running: map[string]*Process{}}
}

// start runs one of the lab's own programs.
func (ps *processes) start(name, path string, args ...string) (*Process, error) {
	return ps.run(Command{Name: name, Path: path, Args: args})
}

func (ps *processes) run(c Command) (*Process, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.running[c.Name]; p != nil && !p.ended() {
		return nil, fmt.Errorf("start %s: it is running already", c.Name)
	}
	p := &Process{Name: c.Name, Log: filepath.Join(ps.dir, "logs", c.Name+".log"), done: make(chan struct{})}
	if err := os.MkdirAll(filepath.Dir(p.Log), 0o700); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.Dir = cmp.Or(c.Dir, ps.dir)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := ps.launch(p); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	ps.running[c.Name] = p
	if err := writeFile(filepath.Join(ps.dir, "pids", c.Name), []byte(identify(p.cmd.Process.Pid))); err != nil {
		return nil, errors.Join(err, p.Kill())
	}
	return p, nil
}

// launch starts a command and waits for it in the background. A lab that is not kept ends with its owner: the kernel sees to
// that by the parent-death signal, which follows the thread that forked, so that thread is held as long as the program runs.
func (ps *processes) launch(p *Process) error {
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if ps.keep {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended is in its log
			close(p.done)
		}
	}()
	return <-started
}

func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// PID is the program's process number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed once the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Terminate asks the program to end, waits for that as long as ctx allows, and tells how it ended.
func (p *Process) Terminate(ctx context.Context) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", p.Name, err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("end %s: it does not end after SIGTERM: %w", p.Name, ctx.Err()), p.Kill())
	}
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("%s ended with %s:\n%s", p.Name, p.cmd.ProcessState, tail(p.Log))
	}
	return nil
}

// Kill ends the whole process group at once and waits for the program. A lab's data is thrown away or, after StopAPIServer,
// kept by etcd, so nothing needs a graceful end; an API server would drain for up to a minute.
func (p *Process) Kill() error {
	err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end %s: %w", p.Name, err)
	}
	<-p.done
	return nil
}

// stop ends one program and forgets it.
func (ps *processes) stop(name string) error {
	ps.mu.Lock()
	p := ps.running[name]
	delete(ps.running, name)
	ps.mu.Unlock()
	if p == nil {
		return fmt.Errorf("stop %s: it is not running", name)
	}
	if err := p.Kill(); err != nil {
		return err
	}
	return os.Remove(filepath.Join(ps.dir, "pids", name))
}

// killAll ends every program this process started. What cannot be ended is left to takeDown, which reports it.
func (ps *processes) killAll() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for name, p := range ps.running {
		_ = p.Kill()
		delete(ps.running, name)
	}
}

// WaitReady polls until check gives nil, the program ends or time is up; its error ends with the last lines of the log.
func (p *Process) WaitReady(ctx context.Context, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended (%s):\n%s", p.Name, p.cmd.ProcessState, tail(p.Log))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", p.Name, err, tail(p.Log))
		case <-tick.C:
		}
	}
}

// tail gives the last lines of a log.
func tail(name string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) > 15 {
		lines = lines[len(lines)-15:]
	}
	return strings.Join(lines, "\n")
}

// identify names a process beyond the reuse of its number: pid and start time.
func identify(pid int) string {
	return fmt.Sprintf("%d %s", pid, startTime(pid))
}

// startTime is a process's start in clock ticks since boot, or "" if it is gone.
func startTime(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field is the program's name in parentheses and may hold spaces.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

// alive gives the process number if the process that identify named still runs, else 0.
func alive(identity string) int {
	number, start, ok := strings.Cut(strings.TrimSpace(identity), " ")
	pid, err := strconv.Atoi(number)
	if !ok || err != nil || pid <= 1 || start == "" || startTime(pid) != start {
		return 0
	}
	return pid
}

// Stop kills a program that Run started, as kill -9 does. One that has ended is no error.
func (l *Lab) Stop(name string) error { return l.procs.stop(name) }
