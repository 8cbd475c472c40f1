package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// takeDown removes all that the lab in dir made: first what runs, then what is mounted, then the folder. It works from what the
// folder records, so it serves the lab's own process and, after a crash, any other. It is idempotent.
func takeDown(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{
		endRecorded(dir),
		endShims(dir),
		removeCgroups(cgroupPatterns(cgroupName(filepath.Base(dir)))),
		removeShimSockets(filepath.Join(dir, "nodes", "*", "state")),
		unmountBelow(dir),
		removeBridges(dir),
		removeTables(dir),
		removeLogLinks(dir),
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take down the lab in %s: %w", dir, err)
	}
	return os.RemoveAll(dir)
}

// endRecorded ends the process groups that pids/ names, if they are still the processes they were.
func endRecorded(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "pids", "*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		identity, err := os.ReadFile(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if pid := alive(string(identity)); pid != 0 {
			errs = append(errs, endProcess(-pid, string(identity)))
		}
	}
	return errors.Join(errs...)
}

// endShims ends the containerd shims that serve a socket below dir. Containerd starts them detached, so nothing recorded their
// numbers; their command line carries the socket's path, which is this lab's alone.
func endShims(dir string) error {
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range procs {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		args := strings.Split(string(data), "\x00")
		if !strings.HasPrefix(filepath.Base(args[0]), "containerd-shim") || !hasArgBelow(args[1:], "-address", dir) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, endProcess(pid, identify(pid)))
	}
	return errors.Join(errs...)
}

// hasArgBelow tells whether a flag's value is a path below dir.
func hasArgBelow(args []string, flag, dir string) bool {
	for i, arg := range args[:max(0, len(args)-1)] {
		if arg == flag && strings.HasPrefix(args[i+1], dir+"/") {
			return true
		}
	}
	return false
}

// endProcess kills a process, or a group if pid is negative, and waits until the process identity names is gone.
func endProcess(pid int, identity string) error {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end process %d: %w", pid, err)
	}
	return poll(10*time.Second, func() error {
		if alive(identity) != 0 {
			return fmt.Errorf("process %d does not end", pid)
		}
		return nil
	})
}

// removeShimSockets removes the sockets of killed shims, which containerd's state folder names; containerd keeps them all in one
// folder of the host.
func removeShimSockets(state string) error {
	files, err := filepath.Glob(filepath.Join(state, "io.containerd.runtime.v2.task", "*", "*", "address"))
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		address, err := os.ReadFile(file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		socket := strings.TrimPrefix(strings.TrimSpace(string(address)), "unix://")
		if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// unmountBelow takes away every mount below dir, the newest first, because one may lie on another.
func unmountBelow(dir string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for _, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(unescapeMount(fields[4]), dir+"/") {
			points = append(points, unescapeMount(fields[4]))
		}
	}
	var errs []error
	for i := len(points) - 1; i >= 0; i-- {
		err := syscall.Unmount(points[i], syscall.MNT_DETACH)
		if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", points[i], err))
		}
	}
	return errors.Join(errs...)
}

// unescapeMount undoes the kernel's octal escapes for blanks in mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// removeLogLinks removes the links that a kubelet leaves in /var/log/containers, whose place cannot be configured.
func removeLogLinks(dir string) error {
	links, err := filepath.Glob("/var/log/containers/*.log")
	if err != nil {
		return err
	}
	var errs []error
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, dir+"/") {
			errs = append(errs, os.Remove(link))
		}
	}
	return errors.Join(errs...)
}

// poll calls f until it gives nil or time is up, and gives its last error.
func poll(limit time.Duration, f func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
