package source_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/source"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

// wide makes a history of n commits, each changing one of 500 pools: the tree of pools/ has 20,000 bytes.
func wide(u *upstream, n int) {
	u.tb.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "commit refs/heads/main\ncommitter t <t@example.com> %d +0000\ndata 1\nx\n", 1700002000+i)
		if i == 0 {
			b.WriteString("from refs/heads/main^0\n")
			for p := range 500 {
				fmt.Fprintf(&b, "M 100644 inline pools/pool-%07d/pool.cue\ndata 8\nfirst %02d\n", p, p%100)
			}
		}
		text := fmt.Sprintf("change %d", i)
		fmt.Fprintf(&b, "M 100644 inline pools/pool-%07d/pool.cue\ndata %d\n%s\n", i*7%500, len(text), text)
	}
	u.git(b.String(), "fast-import", "--quiet", "--force")
	u.git("", "repack", "-adq")
}

// BenchmarkRead1000Commits reads what a verdict on 1,000 commits reads: commits, root trees, and the trees of pools/ and of
// the changed pool, each hashed again.
func BenchmarkRead1000Commits(b *testing.B) {
	u := newUpstream(b)
	wide(u, 1000)
	cfg := config(b, u.serve(gitserver.Config{Plain: true}))
	refs, _ := follow(b, newClient(b, cfg))
	for b.Loop() {
		bytes, trees := readHistory(b, cfg.Dir, refs.Tip, 1000)
		b.SetBytes(bytes)
		b.ReportMetric(float64(trees), "trees/op")
	}
}

// readHistory walks first parents and gives how many bytes and trees it read.
func readHistory(b *testing.B, dir, tip string, n int) (bytes int64, trees int) {
	b.Helper()
	r, err := source.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	read := func(id string) []byte {
		_, raw, err := r.Object(id)
		if err != nil {
			b.Fatal(err)
		}
		bytes += int64(len(raw))
		return raw
	}
	for i := range n {
		raw := string(read(tip))
		for _, path := range []string{"", "pools", fmt.Sprintf("pools/pool-%07d", (n-1-i)*7%500)} {
			e, ok, err := r.At(tip, path)
			if err != nil || !ok {
				b.Fatalf("%s: %v, %v", path, ok, err)
			}
			read(e.Hash)
			trees++
		}
		_, rest, _ := strings.Cut(raw, "\nparent ")
		tip = rest[:40]
	}
	return bytes, trees
}

// BenchmarkFetch is one commit on top of 1,000, with the start of the child.
func BenchmarkFetch(b *testing.B) {
	u := newUpstream(b)
	wide(u, 1000)
	cfg := config(b, u.serve(gitserver.Config{Plain: true}))
	c := newClient(b, cfg)
	follow(b, c)
	for b.Loop() {
		b.StopTimer()
		u.commit("main", 1)
		refs, err := c.Poll(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := c.Fetch(b.Context(), refs); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkClone receives 1,000 commits, with the start of the child.
func BenchmarkClone(b *testing.B) {
	u := newUpstream(b)
	wide(u, 1000)
	s := u.serve(gitserver.Config{Plain: true})
	for b.Loop() {
		_, done := follow(b, newClient(b, config(b, s)))
		b.ReportMetric(float64(done.Bytes), "pack-bytes")
	}
}
