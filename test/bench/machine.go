package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// machine describes what the benchmarks ran on, in one line: figures mean nothing without it.
func machine() string {
	parts := []string{
		fmt.Sprintf("%d × %s", runtime.NumCPU(), firstField("/proc/cpuinfo", "model name")),
		firstField("/proc/meminfo", "MemTotal") + " memory",
		runtime.GOOS + "/" + runtime.GOARCH,
		runtime.Version(),
	}
	var uts syscall.Utsname
	if syscall.Uname(&uts) == nil {
		parts = append(parts, "Linux "+text(uts.Release[:]))
	}
	return strings.Join(parts, ", ")
}

// commit names the revision that was measured.
func commit() string {
	out, err := exec.Command("git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// firstField gives the value of the first line "name : value" of a file below /proc.
func firstField(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		label, value, ok := strings.Cut(scanner.Text(), ":")
		if ok && strings.TrimSpace(label) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func text(raw []int8) string {
	var b strings.Builder
	for _, c := range raw {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}
