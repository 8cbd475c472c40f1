package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTable(t *testing.T) {
	rows := []row{
		{what: "a poll", key: key{"p", "Poll", "http-bytes"}, scale: 1, unit: "bytes", limit: 2048},
		{what: "a verdict", key: key{"p", "Verify", "ns/op"}, scale: 1e-6, unit: "ms", limit: 1000},
		{what: "too slow", key: key{"p", "Slow", "ns/op"}, scale: 1e-6, unit: "ms", limit: 1},
		{what: "none allowed", key: key{"p", "Idle", "fsyncs"}, scale: 1, unit: "", limit: 0},
		{what: "growth", key: key{"p", "Slow", "ns/op"}, over: key{"p", "Poll", "ns/op"}, scale: 1, unit: "×", limit: 1.1},
		{what: "gone", key: key{"p", "Gone", "ns/op"}, scale: 1, unit: "ns", limit: 1},
		{what: "for comparison", key: key{"p", "Poll", "ns/op"}, scale: 1, unit: "ns", limit: noLimit},
		{what: "fast", key: key{"p", "Poll", "req/s"}, scale: 1, unit: "req/s", least: 6700},
		{what: "faster", key: key{"p", "Poll", "req/s"}, scale: 1, unit: "req/s", least: 7100},
	}
	lines := fill(rows, results{
		{"p", "Poll", "http-bytes"}: 1890, {"p", "Poll", "ns/op"}: 5, {"p", "Verify", "ns/op"}: 123456789, {"p", "Slow", "ns/op"}: 2e6, {"p", "Idle", "fsyncs"}: 0,
		{"p", "Poll", "req/s"}: 7000,
	})
	want := `| what | measured | promised | kept |
|---|---|---|---|
| a poll | 1890 bytes | ≤ 2048 bytes | yes |
| a verdict | 123 ms | ≤ 1000 ms | yes |
| too slow | 2 ms | ≤ 1 ms | NO |
| none allowed | 0 | ≤ 0 | yes |
| growth | 400000 × | ≤ 1.1 × | NO |
| gone | not measured | ≤ 1 ns | missing |
| for comparison | 5 ns |  |  |
| fast | 7000 req/s | ≥ 6700 req/s | yes |
| faster | 7000 req/s | ≥ 7100 req/s | NO |
`
	if got := markdownTable(lines); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for i, kept := range []bool{true, true, false, true, false, false, true, true, false} {
		if lines[i].kept() != kept {
			t.Errorf("%s: kept is %v", lines[i].what, !kept)
		}
	}
}

func TestWriteResults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "benchmarks.md")
	if err := os.WriteFile(file, []byte("before\n"+beginMark+"old\n"+endMark+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeResults(file, "new\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\n" + beginMark + "new\n" + endMark + "after\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := os.WriteFile(file, []byte(endMark+beginMark), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeResults(file, "new\n"); err == nil {
		t.Error("a file without the marks in order was let through")
	}
}
