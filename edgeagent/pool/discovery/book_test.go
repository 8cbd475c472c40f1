package discovery

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func ports(texts ...string) (all []netip.AddrPort) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddrPort(text))
	}
	return all
}

func openBook(t testing.TB, path string) (*Book, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	return OpenBook(path, slog.New(slog.NewTextHandler(&log, nil))), &log
}

func TestWhereToLookFirst(t *testing.T) {
	b, _ := openBook(t, "")
	b.SetNodes(map[string][]string{"n": {"n.site.example:7440", "10.0.0.1:7440"}})
	b.Proven("n", netip.MustParseAddrPort("10.0.0.9:7440"))
	b.Proven("n", netip.MustParseAddrPort("10.0.0.1:7440")) // it is declared
	if !b.Heard("n", ports("10.0.0.2:7440", "10.0.0.3:7440")) || b.Heard("n", ports("10.0.0.3:7440")) || !b.Heard("n", ports("10.0.0.4:7440")) {
		t.Error("what is new is not told from what is not")
	}
	want := []string{"n.site.example:7440", "10.0.0.1:7440", "10.0.0.4:7440", "10.0.0.3:7440", "10.0.0.2:7440", "10.0.0.9:7440"}
	if got := b.Candidates("n"); !slices.Equal(got, want) {
		t.Errorf("candidates %v, want %v", got, want)
	}
	for i := range 100 {
		b.Heard("n", ports(fmt.Sprintf("10.1.0.%d:7440", i)))
	}
	if got := b.Candidates("n"); len(got) != 2+maxHeard+1 {
		t.Errorf("%d candidates", len(got))
	}
	if b.Heard("stranger", ports("10.0.0.2:7440")) || b.Candidates("stranger") != nil {
		t.Error("a stranger is in the book")
	}
	b.Proven("stranger", netip.MustParseAddrPort("10.0.0.2:7440"))
	b.Proven("n", netip.MustParseAddrPort("127.0.0.1:7440"))
	if b.Has(netip.MustParseAddr("10.0.0.2")) || b.Has(netip.MustParseAddr("127.0.0.1")) || !b.Has(netip.MustParseAddr("10.0.0.9")) || !b.Has(netip.MustParseAddr("10.1.0.99")) {
		t.Error("Has is wrong")
	}
}

// TestProvenAddressesStay across a power cut; nothing else does, and a flapping node wears out no disk.
func TestProvenAddressesStay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pool.json")
	b, _ := openBook(t, path)
	b.SetNodes(map[string][]string{"n": nil, "m": nil})
	b.Heard("n", ports("10.0.0.2:7440"))
	if _, err := os.Stat(path); err == nil {
		t.Error("what is only heard is kept on disk")
	}
	for range 3 {
		b.Proven("n", netip.MustParseAddrPort("[fe80::1%eth0]:7440"))
		b.Proven("n", netip.MustParseAddrPort("10.0.0.3:7440"))
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	b.Proven("n", netip.MustParseAddrPort("[fe80::1%eth0]:7440"))
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was written for what it holds: %v", err)
	}
	again, log := openBook(t, path)
	again.SetNodes(map[string][]string{"n": nil})
	if got := again.Candidates("n"); !slices.Equal(got, []string{"10.0.0.3:7440", "[fe80::1%eth0]:7440"}) || log.Len() > 0 {
		t.Errorf("candidates %v; log %s", got, log)
	}
	again.SetNodes(map[string][]string{"m": nil})
	again.Proven("m", netip.MustParseAddrPort("10.0.0.4:7440"))
	if raw, err := os.ReadFile(path); err != nil || strings.Contains(string(raw), "10.0.0.3") {
		t.Errorf("a removed node is kept: %s, %v", raw, err)
	}
}

// TestDamagedBooks cost what they held, and nothing else.
func TestDamagedBooks(t *testing.T) {
	for what, raw := range map[string]string{
		"empty": "", "text": "hello", "cut": `{"nodes":{"n":["10.0.0.3`, "huge": strings.Repeat(" ", maxFile+1), "another form": `{"nodes":["n"]}`,
		"no address": `{"nodes":{"n":["ten"]}}`,
	} {
		path := filepath.Join(t.TempDir(), "pool.json")
		if err := os.WriteFile(path, []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		b, log := openBook(t, path)
		if !strings.Contains(log.String(), "level=WARN") {
			t.Errorf("%s: nothing in the log", what)
		}
		b.SetNodes(map[string][]string{"n": nil})
		b.Proven("n", netip.MustParseAddrPort("10.0.0.3:7440"))
		if again, log := openBook(t, path); log.Len() > 0 || len(again.Candidates("n")) != 1 {
			t.Errorf("%s: the book is not written again", what)
		}
	}
}

// TestADiskThatIsFull costs the file, not the address.
func TestADiskThatIsFull(t *testing.T) {
	b, log := openBook(t, filepath.Join(t.TempDir(), "gone", "pool.json"))
	b.SetNodes(map[string][]string{"n": nil})
	b.Proven("n", netip.MustParseAddrPort("10.0.0.3:7440"))
	if len(b.Candidates("n")) != 1 || !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("candidates %v, log %s", b.Candidates("n"), log)
	}
}

// FuzzBook: no file gives more addresses than the bound, or one that cannot be dialled.
func FuzzBook(f *testing.F) {
	f.Add([]byte(`{"nodes":{"n":["10.0.0.3:7440","[fe80::1%eth0]:7440"]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		nodes, err := parseBook(raw)
		if err != nil {
			return
		}
		for node, all := range nodes {
			if len(all) > maxProven {
				t.Fatalf("%s: %v", node, all)
			}
			for _, a := range all {
				if !usable(a.Addr()) || a.Port() == 0 {
					t.Fatalf("%s: %v", node, a)
				}
			}
		}
	})
}
