package source_test

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/source"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

// liar is a Git server that offers a tip and sends whatever pack it likes.
type liar struct {
	tip  string
	pack io.Reader
	sent int64
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
	if bytes.Contains(body, []byte("command=ls-refs")) {
		line := l.tip + " refs/heads/main\n"
		fmt.Fprintf(w, "%04x%s0000", len(line)+4, line)
		return
	}
	fmt.Fprint(w, "000dpackfile\n")
	buf := make([]byte, 32<<10)
	for {
		n, err := l.pack.Read(buf)
		if n > 0 {
			fmt.Fprintf(w, "%04x\x01", n+5)
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			l.sent += int64(n)
		}
		if err != nil {
			fmt.Fprint(w, "0000")
			return
		}
	}
}

// entry deflates one object of a pack. size is what its header says.
func entry(kind byte, size int, raw []byte) []byte {
	var b bytes.Buffer
	c := kind<<4 | byte(size&15)
	for size >>= 4; size > 0; size >>= 7 {
		b.WriteByte(c | 0x80)
		c = byte(size & 0x7f)
	}
	b.WriteByte(c)
	z := zlib.NewWriter(&b)
	_, _ = z.Write(raw)
	z.Close()
	return b.Bytes()
}

func packOf(entries ...[]byte) []byte {
	out := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), uint32(len(entries)))
	out = append(out, bytes.Join(entries, nil)...)
	sum := sha1.Sum(out)
	return append(out, sum[:]...)
}

func idOf(kind string, raw []byte) string {
	return fmt.Sprintf("%x", sha1.Sum(fmt.Appendf(nil, "%s %d\x00%s", kind, len(raw), raw)))
}

func commitOf(tree string, parents ...string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "tree %s\n", tree)
	for _, p := range parents {
		fmt.Fprintf(&b, "parent %s\n", p)
	}
	b.WriteString("author t <t@example.com> 1700000000 +0000\ncommitter t <t@example.com> 1700000000 +0000\n\nx\n")
	return []byte(b.String())
}

// TestLiars: a server cannot make the clone name anything that is not a whole commit.
func TestLiars(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	s := u.serve(gitserver.Config{Plain: true})
	blob := []byte("hello")
	empty := idOf("tree", nil)
	nowhere := strings.Repeat("5", 40)
	whole := commitOf(empty)
	for name, c := range map[string]struct {
		tip     string
		entries [][]byte
		reason  string
		says    string
	}{
		"the tip is a blob":        {idOf("blob", blob), [][]byte{entry(3, 5, blob)}, condition.ReasonProtocolError, "where a commit belongs"},
		"the tip is a tree":        {empty, [][]byte{entry(2, 0, nil)}, condition.ReasonProtocolError, "where a commit belongs"},
		"the tip is not sent":      {nowhere, [][]byte{entry(3, 5, blob)}, condition.ReasonProtocolError, "does not send it"},
		"nothing is sent":          {nowhere, nil, condition.ReasonProtocolError, "does not send it"},
		"the tree is not sent":     {idOf("commit", commitOf(nowhere)), [][]byte{entry(1, len(commitOf(nowhere)), commitOf(nowhere))}, condition.ReasonProtocolError, "need " + nowhere},
		"the parent is not sent":   {idOf("commit", commitOf(empty, nowhere)), [][]byte{entry(2, 0, nil), entry(1, len(commitOf(empty, nowhere)), commitOf(empty, nowhere))}, condition.ReasonProtocolError, "need " + nowhere},
		"other bytes under the id": {nowhere, [][]byte{entry(2, 0, nil), entry(1, len(whole), whole)}, condition.ReasonProtocolError, "does not send it"},
		"an id of SHA-256":         {strings.Repeat("5", 64), nil, condition.ReasonProtocolError, "not a SHA-1"},
		"all is well":              {idOf("commit", whole), [][]byte{entry(2, 0, nil), entry(1, len(whole), whole)}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, s)
			client := newClient(t, cfg)
			s.Set(gitserver.Healthy)
			before, _ := follow(t, client)
			s.Set(gitserver.Handle(&liar{tip: c.tip, pack: bytes.NewReader(packOf(c.entries...))}))
			refs, err := client.Poll(t.Context())
			if err == nil {
				_, err = client.Fetch(t.Context(), refs)
			}
			if c.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				intact(t, cfg.Dir, refs)
				return
			}
			wantReason(t, err, c.reason)
			if !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %q, want it to say %q", err, c.says)
			}
			intact(t, cfg.Dir, before)
		})
	}
}

// TestHugeObjects: 1 GiB of zeros takes a megabyte to send, a folder of a million names not much more. They are refused at
// their first bytes: the child has 160 MiB, and next to nothing is written.
func TestHugeObjects(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	s := u.serve(gitserver.Config{Plain: true})
	for name, c := range map[string]struct {
		kind byte
		size int
		says string
	}{
		"a blob of 1 GiB":             {3, 1 << 30, "1073741824 bytes"},
		"a folder of a million files": {2, 1_000_000 * len("100644 f0000001\x0001234567890123456789"), "36000000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, s)
			cfg.Limits.MemoryMB = 160
			client := newClient(t, cfg)
			s.Set(gitserver.Healthy)
			before, _ := follow(t, client)
			head := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), 3)
			start := entry(c.kind, c.size, nil)
			l := &liar{tip: strings.Repeat("6", 40), pack: io.MultiReader(bytes.NewReader(head), bytes.NewReader(start[:len(start)-9]), endless{})}
			s.Set(gitserver.Handle(l))
			_, err := client.Fetch(t.Context(), source.Refs{Tip: l.tip})
			wantReason(t, err, condition.ReasonTooLarge)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			intact(t, cfg.Dir, before)
			list, err := os.ReadDir(filepath.Join(cfg.Dir, "objects/pack"))
			if err != nil || len(list) != 2 {
				t.Errorf("left behind: %v, %v", list, err)
			}
		})
	}
}

// TestEndlessPack: a pack without end stops at the bound on the clone.
func TestEndlessPack(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	s := u.serve(gitserver.Config{Plain: true})
	cfg := config(t, s)
	cfg.Limits.RepoBytes, cfg.Limits.MemoryMB = 4<<20, 160
	client := newClient(t, cfg)
	blob := bytes.Repeat([]byte("0123456789abcdef"), 64)
	one := entry(3, len(blob), blob)
	head := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), 900_000)
	l := &liar{tip: strings.Repeat("6", 40), pack: io.MultiReader(bytes.NewReader(head), &repeat{one: one})}
	s.Set(gitserver.Handle(l))
	_, err := client.Fetch(t.Context(), source.Refs{Tip: l.tip})
	wantReason(t, err, condition.ReasonTooLarge)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// repeat gives the same bytes again and again.
type repeat struct {
	one []byte
	at  int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.one[r.at:])
	r.at = (r.at + n) % len(r.one)
	return n, nil
}
