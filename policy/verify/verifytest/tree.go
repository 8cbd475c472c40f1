package verifytest

import (
	"bytes"
	"encoding/hex"
	"iter"
	"slices"
	"strings"
)

const treeMode = "40000"

// Entry is one entry of a tree.
type Entry struct {
	// Mode as trees have it: "100644", "100755", "120000", "40000", "160000".
	Mode string
	Name string
	ID   string
}

// Tree writes a tree of the entries in the order given, whatever their names and modes, and gives its id.
func (r *Repo) Tree(entries ...Entry) string {
	r.tb.Helper()
	var b bytes.Buffer
	for _, e := range entries {
		id, err := hex.DecodeString(e.ID)
		check(r.tb, err)
		b.WriteString(e.Mode + " " + e.Name + "\x00")
		b.Write(id)
	}
	return r.Write("tree", b.Bytes())
}

// Entries gives a tree's entries.
func (r *Repo) Entries(tree string) []Entry {
	r.tb.Helper()
	raw := r.Raw(tree)
	var out []Entry
	for len(raw) > 0 {
		head, rest, ok := bytes.Cut(raw, []byte{0})
		if !ok || len(rest) < 20 {
			r.tb.Fatalf("tree %s is malformed", tree)
		}
		mode, name, _ := strings.Cut(string(head), " ")
		out = append(out, Entry{Mode: mode, Name: name, ID: hex.EncodeToString(rest[:20])})
		raw = rest[20:]
	}
	return out
}

// sorted gives entries in git's order, in which a folder's name ends in a slash.
func sorted(entries iter.Seq[Entry]) []Entry {
	return slices.SortedFunc(entries, func(a, b Entry) int {
		if strings.HasPrefix(a.Name, b.Name) || strings.HasPrefix(b.Name, a.Name) {
			return strings.Compare(a.key(), b.key())
		}
		return strings.Compare(a.Name, b.Name)
	})
}

func (e Entry) key() string {
	if e.Mode == treeMode {
		return e.Name + "/"
	}
	return e.Name
}
