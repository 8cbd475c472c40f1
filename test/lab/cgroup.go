package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroup is the node's own root for pods: a kubelet removes the cgroups of pods it does not know, and two share one machine.
func (n *Node) cgroup() string {
	return fmt.Sprintf("/%s/%d", cgroupName(filepath.Base(n.lab.Dir)), n.index)
}

// makeCgroup makes the node's cgroup in every hierarchy.
func (n *Node) makeCgroup() error {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return makeCgroup2(root, n.cgroup())
	}
	hierarchies, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, h := range hierarchies {
		if h.Type()&os.ModeSymlink != 0 || !h.IsDir() {
			continue
		}
		if err := os.MkdirAll(filepath.Join(root, h.Name(), n.cgroup()), 0o755); err != nil {
			return err
		}
		if h.Name() == "cpuset" {
			if err := inheritCpuset(filepath.Join(root, h.Name()), n.cgroup()); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeCgroup2 hands every controller down to the node's cgroup.
func makeCgroup2(root, cgroup string) error {
	controllers, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return err
	}
	enable := "+" + strings.Join(strings.Fields(string(controllers)), " +")
	dir := root
	for _, part := range strings.Split(strings.Trim(cgroup, "/"), "/") {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(enable), 0o644); err != nil {
			return fmt.Errorf("hand controllers down from %s: %w", dir, err)
		}
		dir = filepath.Join(dir, part)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(enable), 0o644)
}

// inheritCpuset gives a new cpuset its parent's processors and memory, without which nothing can run in it.
func inheritCpuset(root, cgroup string) error {
	dir := root
	for _, part := range strings.Split(strings.Trim(cgroup, "/"), "/") {
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, part, file), value, 0o644); err != nil {
				return err
			}
		}
		dir = filepath.Join(dir, part)
	}
	return nil
}

// cgroupPatterns match a cgroup in every hierarchy of version 1, in a version 2 mounted beside them and in a pure version 2.
func cgroupPatterns(cgroup string) []string {
	return []string{filepath.Join("/sys/fs/cgroup", cgroup), filepath.Join("/sys/fs/cgroup/*", cgroup)}
}

// cgroupName is the top cgroup of a lab's pods.
func cgroupName(lab string) string { return "holdfast-lab-" + lab }

// removeCgroups kills what runs in cgroups (pods) and removes them, innermost first.
func removeCgroups(patterns []string) error {
	var errs []error
	for _, pattern := range patterns {
		tops, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, top := range tops {
			errs = append(errs, poll(10*time.Second, func() error { return removeCgroup(top) }))
		}
	}
	return errors.Join(errs...)
}

func removeCgroup(top string) error {
	var groups []string
	err := filepath.WalkDir(top, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			groups = append(groups, path)
		}
		return nil // a group that vanishes while walking is as good as removed
	})
	if err != nil {
		return err
	}
	sort.Sort(sort.Reverse(sort.StringSlice(groups)))
	var errs []error
	for _, group := range groups {
		data, _ := os.ReadFile(filepath.Join(group, "cgroup.procs"))
		for _, number := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(number); err == nil && pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL) // Rmdir reports it if this was in vain
			}
		}
		if err := syscall.Rmdir(group); err != nil && !errors.Is(err, syscall.ENOENT) {
			errs = append(errs, fmt.Errorf("remove cgroup %s: %w", group, err))
		}
	}
	return errors.Join(errs...)
}
