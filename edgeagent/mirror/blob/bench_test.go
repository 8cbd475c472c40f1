//go:build bench

package blob

import (
	"bytes"
	"os"
	"testing"
	"time"
)

// anonymous is the process's own memory, as the kernel counts it.
func anonymous(t testing.TB) string {
	status, err := os.ReadFile("/proc/self/status")
	must(t, err)
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte("RssAnon:")); ok {
			return string(bytes.TrimSpace(value))
		}
	}
	return "unknown"
}

// TestStreamFour writes four blobs of 1 GiB at once, each with a reader that follows, and says what that takes.
func TestStreamFour(t *testing.T) {
	f := &faults{only: "fsync"}
	dir := t.TempDir()
	tuned := defaults(dir)
	tuned.disk.step = f.step
	s, err := open(dir, Options{}, tuned)
	must(t, err)
	defer s.Close()
	before, begun := anonymous(t), time.Now()
	peak := stream(t, s, 4, 1<<30, 1)
	t.Logf("4 × 1 GiB in %v: heap and stacks at most %d KiB, anonymous memory %s before and %s after, %d flushes", time.Since(begun), peak>>10, before, anonymous(t), f.count())
	if peak > 20<<20 {
		t.Errorf("%d bytes in use, more than 20 MiB", peak)
	}
}
