package verify

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

const (
	fuzzTree   = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n"
	fuzzPeople = "author A <a@example.com> 1767225600 +0000\ncommitter A <a@example.com> 1767225600 +0000\n"
	fuzzSSH    = "-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAg\n-----END SSH SIGNATURE-----\n"
)

// FuzzCommit: what is read as a commit is one: its parts are where Git looks for them, and the payload is the object without the
// signature header, whatever stands around it.
func FuzzCommit(f *testing.F) {
	f.Add([]byte(fuzzTree + fuzzPeople + "\nmessage\n"))
	f.Add([]byte(fuzzTree + "parent 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n" + fuzzPeople + "gpgsig " + strings.ReplaceAll(fuzzSSH, "\n", "\n ") + "\nencoding x\n\nm\n"))
	f.Add([]byte(fuzzTree + fuzzPeople + "gpgsig a\ngpgsig b\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseCommit(raw)
		if err != nil {
			return
		}
		if !isID(c.tree) || c.date.Unix() < 0 || c.date.Unix() > maxDate {
			t.Fatalf("tree %q, date %s", c.tree, c.date)
		}
		if !bytes.HasPrefix(raw, []byte("tree "+c.tree+"\n")) {
			t.Fatal("the tree is not where Git looks for it")
		}
		if len(c.signatures) == 0 && !bytes.Equal(c.payload, raw) {
			t.Fatal("an unsigned commit's payload is not the commit")
		}
		if len(c.signatures) > 0 {
			p, err := parseCommit(c.payload)
			if err != nil || len(p.signatures) != 0 || p.tree != c.tree || !p.date.Equal(c.date) || p.subject != c.subject {
				t.Fatalf("the payload is another commit: %+v, %v", p, err)
			}
		}
		if strings.ContainsAny(c.subject, "\n\x1b\x00") {
			t.Fatalf("subject %q is not fit for a terminal", c.subject)
		}
	})
}

// fuzzObjects hold one tree of unknown content; every other id is a blob of one byte.
type fuzzObjects struct{ old, new []byte }

const (
	fuzzOld = "1111111111111111111111111111111111111111"
	fuzzNew = "2222222222222222222222222222222222222222"
)

func (o fuzzObjects) Object(id string) (string, []byte, error) {
	switch id {
	case fuzzOld:
		return kindTree, o.old, nil
	case fuzzNew:
		return kindTree, o.new, nil
	}
	return kindBlob, []byte("x"), nil
}

// FuzzTree: what is read as a tree is in Git's order with each name once, and a diff finds exactly the names that differ. A diff
// against nothing and one against another tree agree on what is a good tree.
func FuzzTree(f *testing.F) {
	entry := func(mode, name, id string) string {
		raw, _ := hex.DecodeString(id)
		return mode + " " + name + "\x00" + string(raw)
	}
	id := strings.Repeat("3", 40)
	f.Add([]byte(""), []byte(entry("100644", "a", id)))
	f.Add([]byte(entry("100644", "a", id)), []byte(entry("100644", "a", id)+entry("120000", "b", id)))
	f.Add([]byte(entry("100644", "a.b", id)+entry("100644", "b", id)), []byte(entry("100644", "a", id)+entry("100644", "a.b", id)+entry("100644", "b", id)))
	f.Fuzz(func(t *testing.T, old, now []byte) {
		r := newReader(fuzzObjects{old, now}, Limits{})
		touched := map[string]bool{}
		if _, err := diffTrees(context.Background(), r, "", fuzzOld, 0, func(string) {}); err != nil {
			return // only trees that were accepted are compared with
		}
		_, whole := diffTrees(context.Background(), r, "", fuzzNew, 0, func(string) {})
		_, err := diffTrees(context.Background(), r, fuzzOld, fuzzNew, 0, func(p string) { touched[p] = true })
		if (whole == nil) != (err == nil) {
			t.Fatalf("a diff against nothing says %v, one against a good tree %v", whole, err)
		}
		if err != nil {
			return
		}
		have, want := list(t, old), list(t, now)
		for name := range have {
			if (have[name] != want[name]) != touched[name] {
				t.Fatalf("%q: touched is %v", name, touched[name])
			}
		}
		for name := range touched {
			if have[name] == want[name] {
				t.Fatalf("%q is touched and did not change", name)
			}
		}
	})
}

// list reads a tree naively. A tree with folders does not get here: their objects are blobs.
func list(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	for len(raw) > 0 {
		head, rest, _ := bytes.Cut(raw, []byte{0})
		mode, name, _ := strings.Cut(string(head), " ")
		if out[name] != "" {
			t.Fatalf("%q twice", name)
		}
		out[name] = fmt.Sprintf("%s %x", mode, rest[:20])
		raw = rest[20:]
	}
	return out
}

// FuzzSymlink: a target that is let through, followed by hand, stays in the tree.
func FuzzSymlink(f *testing.F) {
	f.Add("../fleet.cue", 1)
	f.Add("a/../../..", 2)
	f.Add("/etc/passwd", 3)
	f.Fuzz(func(t *testing.T, target string, depth int) {
		if depth < 0 || depth > 20 || checkSymlink(target, depth) != nil {
			return
		}
		for part := range strings.SplitSeq(target, "/") {
			switch part {
			case "", ".":
			case "..":
				depth--
			default:
				depth++
			}
			if depth < 0 {
				t.Fatalf("%q leaves the tree", target)
			}
		}
		if strings.HasPrefix(target, "/") {
			t.Fatalf("%q is absolute", target)
		}
	})
}

// FuzzSSHSignature: a signature that is read is written so that it is read as the same.
func FuzzSSHSignature(f *testing.F) {
	f.Add(fuzzSSH)
	f.Add("-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		sig, err := unarmorSSH(text)
		if err != nil {
			return
		}
		again, err := parseSSH(sig.Marshal())
		if err != nil || again.Namespace != sig.Namespace {
			t.Fatalf("%v", err)
		}
	})
}

// FuzzPGPSignature: no armor makes the reader fail in another way than by an error.
func FuzzPGPSignature(f *testing.F) {
	f.Add("-----BEGIN PGP SIGNATURE-----\n\niHUEABYKAB0WIQ==\n-----END PGP SIGNATURE-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		if sig, err := readPGPSignature(text); err == nil && sig == nil {
			t.Fatal("neither a signature nor an error")
		}
	})
}

// FuzzNote: what a note holds is bounded, and every part of it has its form.
func FuzzNote(f *testing.F) {
	f.Add([]byte("countersignature AAAA\nre-anchor 4b825dc642cb6eb9a060e54bf8d69288fbee4904 AAAA\nx\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n := ParseNote(text, 3)
		if len(n.Countersignatures)+len(n.Reanchors) > 3 {
			t.Fatal("over the bound")
		}
		for _, r := range n.Reanchors {
			if !isID(r.To) || len(r.Signature) == 0 {
				t.Fatalf("got %+v", r)
			}
		}
	})
}

// FuzzNotesTree: no tree of notes makes the lookup fail in another way than by a rejection, which is passed over.
func FuzzNotesTree(f *testing.F) {
	f.Add([]byte("100644 " + strings.Repeat("4", 40) + "\x00" + strings.Repeat("x", 20)))
	f.Add([]byte("40000 44\x00" + strings.Repeat("\x22", 20)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		n := &notes{reader: newReader(fuzzObjects{new: raw}, Limits{}), root: fuzzNew}
		if _, err := n.of(strings.Repeat("4", 40)); err != nil {
			t.Fatal(err)
		}
	})
}
