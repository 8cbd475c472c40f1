package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
)

// results are the figures of all benchmarks: by package below the module, benchmark and unit, as in
// "reconciler/source Poll/refs=10000 ns/op".
type results map[key]float64

type key struct{ pkg, name, unit string }

const module = "github.com/holdfast-dev/holdfast/"

// runGoBenchmarks runs every Go benchmark of the given packages, one package after another, and shows what they print.
func runGoBenchmarks(ctx context.Context, packages []string, out io.Writer) (results, error) {
	args := append([]string{"test", "-run", "^$", "-bench", ".", "-benchmem", "-tags", "bench", "-p", "1", "-timeout", "60m"}, packages...)
	fmt.Fprintf(out, "$ go %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, "go", args...)
	var printed bytes.Buffer
	cmd.Stdout = io.MultiWriter(out, &printed)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("run the Go benchmarks: %w", err)
	}
	return parse(&printed)
}

// parse reads the output of go test -bench, which is made for programs: golang.org/design/14313-benchmark-format.
func parse(printed io.Reader) (results, error) {
	found := results{}
	pkg := ""
	scanner := bufio.NewScanner(printed)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		switch {
		case len(fields) == 2 && fields[0] == "pkg:":
			pkg = strings.TrimPrefix(fields[1], module)
		case len(fields) >= 4 && strings.HasPrefix(fields[0], "Benchmark"):
			if err := found.add(pkg, fields); err != nil {
				return nil, fmt.Errorf("%s: %q: %w", pkg, scanner.Text(), err)
			}
		}
	}
	return found, scanner.Err()
}

// add takes one line: name, number of runs, then pairs of value and unit.
func (r results) add(pkg string, fields []string) error {
	name := strings.TrimPrefix(fields[0], "Benchmark")
	// go test adds -GOMAXPROCS where it is not 1.
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		if _, err := strconv.Atoi(name[i+1:]); err == nil {
			name = name[:i]
		}
	}
	for i := 2; i+1 < len(fields); i += 2 {
		value, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return err
		}
		r[key{pkg, name, fields[i+1]}] = value
	}
	return nil
}

// benchmarkPackages finds the packages with a Go benchmark.
func benchmarkPackages(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "grep", "-rlE", "--include=*_test.go", `^func Benchmark[A-Z]`, ".").Output()
	if err != nil {
		return nil, fmt.Errorf("find benchmarks: %w", err)
	}
	var packages []string
	seen := map[string]bool{}
	for _, file := range strings.Fields(string(out)) {
		if dir := "./" + path.Dir(file); !seen[dir] {
			seen[dir] = true
			packages = append(packages, dir)
		}
	}
	return packages, nil
}
