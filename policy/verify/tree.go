package verify

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// mode is a tree entry's mode, one of those Git writes today.
type mode byte

const (
	modeFile mode = iota
	modeExecutable
	modeSymlink
	modeTree
	modeSubmodule
)

// modeTexts are the modes as trees have them.
var modeTexts = [...]string{modeFile: "100644", modeExecutable: "100755", modeSymlink: "120000", modeTree: "40000", modeSubmodule: "160000"}

func (m mode) String() string { return modeTexts[m] }

func modeOf(text []byte) (mode, bool) {
	for m, t := range modeTexts {
		if string(text) == t {
			return mode(m), true
		}
	}
	return 0, false
}

// entry is one entry of a tree. Its slices belong to the tree object.
type entry struct {
	mode mode
	name []byte
	id   []byte // 20 bytes
}

func (e entry) hexID() string { return hex.EncodeToString(e.id) }

var errTreeForm = errors.New("an entry that is no mode, name and object id")

// nextEntry reads the entry that raw begins with, in form only: see checkName for its name.
func nextEntry(raw []byte) (e entry, rest []byte, err error) {
	space := bytes.IndexByte(raw[:min(len(raw), 7)], ' ')
	if space < 0 {
		return entry{}, nil, errTreeForm
	}
	m, ok := modeOf(raw[:space])
	if !ok {
		return entry{}, nil, fmt.Errorf("an entry of mode %q, which is no file, folder or symlink", raw[:space])
	}
	raw = raw[space+1:]
	end := bytes.IndexByte(raw, 0)
	if end < 0 || len(raw) < end+21 {
		return entry{}, nil, errTreeForm
	}
	return entry{mode: m, name: raw[:end], id: raw[end+1 : end+21]}, raw[end+21:], nil
}

// compareEntries orders entries as Git does: by name, where a folder's name ends in a slash.
func compareEntries(a, b entry) int {
	n := min(len(a.name), len(b.name))
	if c := bytes.Compare(a.name[:n], b.name[:n]); c != 0 {
		return c
	}
	return cmp.Compare(a.after(n), b.after(n))
}

// after gives the byte behind the first n of the name, as it counts in the order.
func (e entry) after(n int) byte {
	switch {
	case n < len(e.name):
		return e.name[n]
	case e.mode == modeTree:
		return '/'
	}
	return 0
}

// cursor steps through a tree and holds it to Git's order, in which no name comes twice.
type cursor struct {
	rest  []byte // behind entry
	entry entry
	more  bool
	// files are the names so far that a folder of the same name could still follow: in Git's order "a" and "a/" are apart.
	files [][]byte
}

func newCursor(raw []byte) (*cursor, error) {
	c := &cursor{rest: raw}
	return c, c.next()
}

func (c *cursor) next() error {
	prev := c.entry
	if len(c.rest) == 0 {
		c.more = false
		return nil
	}
	var err error
	if c.entry, c.rest, err = nextEntry(c.rest); err != nil {
		return err
	}
	if prev.name != nil && compareEntries(prev, c.entry) >= 0 {
		return fmt.Errorf("entries out of order, or the name %q twice", c.entry.name)
	}
	c.more = true
	return c.unique()
}

// unique refuses a folder with the name of a file.
func (c *cursor) unique() error {
	for len(c.files) > 0 && !bytes.HasPrefix(c.entry.name, c.files[len(c.files)-1]) {
		c.files = c.files[:len(c.files)-1]
	}
	if c.entry.mode != modeTree {
		c.files = append(c.files, c.entry.name)
	} else if len(c.files) > 0 && len(c.files[len(c.files)-1]) == len(c.entry.name) {
		return fmt.Errorf("the name %q twice", c.entry.name)
	}
	return nil
}

// skipSame steps two cursors, whose entries have the same name, over what follows alike in both. Most of a large folder is so, and
// was found in order when the old tree was accepted.
func skipSame(old, now *cursor) error {
	for {
		end := bytes.IndexByte(old.rest, 0) + 21
		if end <= 21 || len(old.rest) < end || len(now.rest) < end || !bytes.Equal(old.rest[:end], now.rest[:end]) {
			return nil
		}
		e, _, err := nextEntry(now.rest[:end])
		if err != nil {
			return err
		}
		old.entry, now.entry = e, e
		old.rest, now.rest = old.rest[end:], now.rest[end:]
		if err := now.unique(); err != nil {
			return err
		}
	}
}

// find gives the entry of that name in a tree.
func find(raw []byte, name string) (entry, bool, error) {
	for len(raw) > 0 {
		e, rest, err := nextEntry(raw)
		if err != nil {
			return entry{}, false, err
		}
		if string(e.name) == name {
			return e, true, nil
		}
		raw = rest
	}
	return entry{}, false, nil
}

// checkName refuses names that could mean something else to a file system, a shell or Git itself.
func checkName(name []byte) error {
	switch s := string(name); {
	case s == "" || s == "." || s == "..":
		return fmt.Errorf("the name %q", s)
	case strings.ContainsAny(s, "/\\"):
		return fmt.Errorf("a slash or backslash in the name %q", s)
	case !utf8.ValidString(s):
		return fmt.Errorf("the name %q, which is not UTF-8", s)
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }):
		return fmt.Errorf("a control or invisible character in the name %q", s)
	case isDotGit(s):
		return fmt.Errorf("the name %q, which is Git's own", s)
	}
	return nil
}

// isDotGit knows .git in the spellings by which some file system would find it.
func isDotGit(name string) bool {
	name, _, _ = strings.Cut(name, ":")
	name = strings.ToLower(strings.TrimRight(name, ". "))
	return name == ".git" || name == "git~1"
}

// checkSymlink refuses a target that leaves the tree. depth is how many folders deep the symlink's own folder is. ".." may
// stand at the start only: behind a name that is itself a symlink it could lead anywhere.
func checkSymlink(target string, depth int) error {
	if target == "" || strings.ContainsAny(target, "\x00\\") || !utf8.ValidString(target) {
		return fmt.Errorf("an odd target %q", target)
	}
	if target[0] == '/' {
		return fmt.Errorf("the absolute target %q", target)
	}
	named := false
	for part := range strings.SplitSeq(target, "/") {
		switch {
		case part == "" || part == ".":
		case part != "..":
			named = true
			if isDotGit(part) {
				return fmt.Errorf("the target %q in Git's own folder", target)
			}
		case named:
			return fmt.Errorf("the target %q with \"..\" behind a name", target)
		default:
			if depth--; depth < 0 {
				return fmt.Errorf("the target %q outside of the tree", target)
			}
		}
	}
	return nil
}
