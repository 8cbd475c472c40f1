package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTable(t *testing.T) {
	rows := []row{
		{"a poll", key{"p", "Poll", "http-bytes"}, 1, "bytes", 2048},
		{"a verdict", key{"p", "Verify", "ns/op"}, 1e-6, "ms", 1000},
		{"too slow", key{"p", "Slow", "ns/op"}, 1e-6, "ms", 1},
		{"none allowed", key{"p", "Idle", "fsyncs"}, 1, "", 0},
		{"gone", key{"p", "Gone", "ns/op"}, 1, "ns", 1},
		{"for comparison", key{"p", "Poll", "ns/op"}, 1, "ns", noLimit},
	}
	lines := fill(rows, results{
		{"p", "Poll", "http-bytes"}: 1890, {"p", "Poll", "ns/op"}: 5, {"p", "Verify", "ns/op"}: 123456789, {"p", "Slow", "ns/op"}: 2e6, {"p", "Idle", "fsyncs"}: 0,
	})
	want := `| what | measured | promised | kept |
|---|---|---|---|
| a poll | 1890 bytes | ≤ 2048 bytes | yes |
| a verdict | 123 ms | ≤ 1000 ms | yes |
| too slow | 2 ms | ≤ 1 ms | NO |
| none allowed | 0 | ≤ 0 | yes |
| gone | not measured | ≤ 1 ns | missing |
| for comparison | 5 ns |  |  |
`
	if got := markdownTable(lines); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for i, kept := range []bool{true, true, false, true, false, true} {
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
