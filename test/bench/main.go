// Command bench measures what Holdfast promises about speed and memory: it runs the Go benchmarks of all packages and prints one
// table of promises and figures, which it also writes into docs/benchmarks.md. It ends with 1 if a promise is not kept or a
// figure is missing. The benchmarks of whole programs (an idle agent, hundreds of agents in one process) are in this package's tests.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	out := flag.String("out", "docs/benchmarks.md", "the file whose results are replaced; empty means none")
	from := flag.String("from", "", "take the figures from this file of `go test -bench` output, and run nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	kept, err := run(ctx, *out, *from)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
	}
	if err != nil || !kept {
		os.Exit(1)
	}
}

// run measures everything and tells whether every promise was kept.
func run(ctx context.Context, out, from string) (bool, error) {
	found, err := figures(ctx, from)
	if err != nil {
		return false, err
	}
	lines := fill(rows, found)
	fmt.Printf("\n%s\n%s\n", machine(), plainTable(lines))
	if out != "" {
		head := fmt.Sprintf("\nMeasured at %s on %s.\n\n", commit(), machine())
		if err := writeResults(out, head+markdownTable(lines)+"\n"); err != nil {
			return false, err
		}
	}
	kept := true
	for _, l := range lines {
		kept = kept && l.kept()
	}
	return kept, nil
}

// figures reads what an earlier run printed, or runs every Go benchmark there is.
func figures(ctx context.Context, from string) (results, error) {
	if from != "" {
		printed, err := os.Open(from)
		if err != nil {
			return nil, err
		}
		defer printed.Close()
		return parse(printed)
	}
	packages, err := benchmarkPackages(ctx)
	if err != nil {
		return nil, err
	}
	return runGoBenchmarks(ctx, packages, os.Stdout)
}
