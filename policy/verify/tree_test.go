package verify_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify"
	vt "github.com/holdfast-dev/holdfast/policy/verify/verifytest"
)

// openPolicy lets alice change everything, so that only the tree is in question.
func openPolicy() trust.Policy {
	p := vt.DefaultPolicy()
	p.Roles[trust.RootRole] = trust.Role{Principals: []string{"alice", "bob"}, Threshold: 1, Paths: []string{"trust/**"}}
	return p
}

// TestTrees has one case for each way a tree can be bad. Each tree is that of the anchor with a folder "x" of odd entries, or with
// odd entries at the root.
func TestTrees(t *testing.T) {
	blob := func(r *vt.Repo) string { return r.Write("blob", []byte("x")) }
	entry := func(mode, name string) func(r *vt.Repo) []vt.Entry {
		return func(r *vt.Repo) []vt.Entry {
			id := blob(r)
			if mode == "40000" {
				id = r.Tree(vt.Entry{Mode: "100644", Name: "f", ID: id})
			}
			return []vt.Entry{{Mode: mode, Name: name, ID: id}}
		}
	}
	link := func(target string) func(r *vt.Repo) []vt.Entry {
		return func(r *vt.Repo) []vt.Entry {
			return []vt.Entry{{Mode: "120000", Name: "link", ID: r.Write("blob", []byte(target))}}
		}
	}
	pair := func(a, b vt.Entry) func(r *vt.Repo) []vt.Entry {
		return func(r *vt.Repo) []vt.Entry {
			sub := r.Tree(vt.Entry{Mode: "100644", Name: "f", ID: blob(r)})
			for _, e := range []*vt.Entry{&a, &b} {
				if e.ID = blob(r); e.Mode == "40000" {
					e.ID = sub
				}
			}
			return []vt.Entry{a, b}
		}
	}
	for name, c := range map[string]struct {
		entries func(r *vt.Repo) []vt.Entry
		reason  string
		words   string
	}{
		"a file":                       {entry("100644", "pool.cue"), verify.Accepted, ""},
		"an executable":                {entry("100755", "run"), verify.Accepted, ""},
		"a folder":                     {entry("40000", "sub"), verify.Accepted, ""},
		"unicode":                      {entry("100644", "Köln.cue"), verify.Accepted, ""},
		"a name with dots":             {entry("100644", "..a"), verify.Accepted, ""},
		".gitignore":                   {entry("100644", ".gitignore"), verify.Accepted, ""},
		"a submodule":                  {entry("160000", "sub"), verify.TreeInvalid, "x/sub is a submodule"},
		"..":                           {entry("100644", ".."), verify.TreeInvalid, `the folder x holds the name ".."`},
		"a folder ..":                  {entry("40000", ".."), verify.TreeInvalid, `the name ".."`},
		".":                            {entry("40000", "."), verify.TreeInvalid, `the name "."`},
		"no name":                      {entry("100644", ""), verify.TreeInvalid, `the name ""`},
		".git":                         {entry("40000", ".git"), verify.TreeInvalid, `the name ".git"`},
		".GIT":                         {entry("40000", ".GIT"), verify.TreeInvalid, "Git's own"},
		".git with a dot":              {entry("40000", ".git."), verify.TreeInvalid, "Git's own"},
		".git with a stream":           {entry("40000", ".git::$INDEX_ALLOCATION"), verify.TreeInvalid, "Git's own"},
		"git~1":                        {entry("40000", "GIT~1"), verify.TreeInvalid, "Git's own"},
		"an invisible character":       {entry("40000", ".g\u200cit"), verify.TreeInvalid, "invisible"},
		"a slash":                      {entry("100644", "a/b"), verify.TreeInvalid, "slash"},
		"an absolute path":             {entry("100644", "/etc"), verify.TreeInvalid, "slash"},
		"a backslash":                  {entry("100644", `a\b`), verify.TreeInvalid, "backslash"},
		"a line end":                   {entry("100644", "a\nb"), verify.TreeInvalid, "control"},
		"not UTF-8":                    {entry("100644", "a\xffb"), verify.TreeInvalid, "not UTF-8"},
		"an old mode":                  {entry("100664", "a"), verify.TreeInvalid, `mode "100664"`},
		"a padded mode":                {entry("040000", "a"), verify.TreeInvalid, `mode "040000"`},
		"a device":                     {entry("20000", "a"), verify.TreeInvalid, `mode "20000"`},
		"a name too long":              {entry("100644", strings.Repeat("a", 256)), verify.TooLarge, "256 bytes"},
		"a name twice":                 {pair(vt.Entry{Mode: "100644", Name: "a"}, vt.Entry{Mode: "100644", Name: "a"}), verify.TreeInvalid, `the name "a" twice`},
		"a file and a folder":          {pair(vt.Entry{Mode: "100644", Name: "a"}, vt.Entry{Mode: "40000", Name: "a"}), verify.TreeInvalid, `the name "a" twice`},
		"out of order":                 {pair(vt.Entry{Mode: "100644", Name: "b"}, vt.Entry{Mode: "100644", Name: "a"}), verify.TreeInvalid, "out of order"},
		"a file called a folder":       {func(r *vt.Repo) []vt.Entry { return []vt.Entry{{Mode: "40000", Name: "a", ID: blob(r)}} }, verify.TreeInvalid, "the folder x/a is a blob object, not a tree"},
		"a folder called a file":       {func(r *vt.Repo) []vt.Entry { return []vt.Entry{{Mode: "100644", Name: "a", ID: r.TreeOf(r.Tip())}} }, verify.TreeInvalid, "x/a is a tree object, not a blob"},
		"an empty folder":              {func(r *vt.Repo) []vt.Entry { return []vt.Entry{{Mode: "40000", Name: "a", ID: r.Tree()}} }, verify.TreeInvalid, "x/a is empty"},
		"a symlink inside":             {link("../trust/policy.json"), verify.Accepted, ""},
		"a symlink to the root":        {link(".."), verify.Accepted, ""},
		"a symlink out of the tree":    {link("../../etc/passwd"), verify.TreeInvalid, `symlink x/link has the target "../../etc/passwd" outside of the tree`},
		"an absolute symlink":          {link("/etc/passwd"), verify.TreeInvalid, "absolute"},
		"a symlink through a symlink":  {link("sub/../../.."), verify.TreeInvalid, `".." behind a name`},
		"a symlink into .git":          {link("../.git/config"), verify.TreeInvalid, "Git's own folder"},
		"an empty symlink":             {link(""), verify.TreeInvalid, "odd target"},
		"a symlink of a huge target":   {link(strings.Repeat("a/", 1000)), verify.TooLarge, "bytes"},
		"a file with a longer sibling": {pair(vt.Entry{Mode: "100644", Name: "a"}, vt.Entry{Mode: "40000", Name: "a.b"}), verify.Accepted, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := vt.New(t, vt.InMemory(), vt.WithPolicy(openPolicy()))
			s := enrol(t, r)
			entries := c.entries(r)
			r.Commit(vt.Commit{Tree: r.Tree(append(r.Entries(r.TreeOf(r.Anchor())), vt.Entry{Mode: "40000", Name: "x", ID: r.Tree(entries...)})...), By: r.Key("alice")})
			if c.reason == verify.Accepted {
				accepted(t, r, s)
				return
			}
			rejected(t, r, s, c.reason, c.words)
			if _, err := verify.Enrol(r, r.Tip()); err == nil || !strings.Contains(err.Error(), c.words) {
				t.Fatalf("enrolment at it: %v", err)
			}
		})
	}
}

// TestNameTwiceAroundUnchangedEntries has a file come in front of an unchanged folder of its name, with unchanged entries
// between them: what is skipped as known must not hide it.
func TestNameTwiceAroundUnchangedEntries(t *testing.T) {
	r := vt.New(t, vt.InMemory(), vt.WithPolicy(openPolicy()), vt.WithFiles(vt.Files{"x/a.1": "1", "x/a.2": "2", "x/a/f": "f", "x/b": "b"}))
	s := enrol(t, r)
	var x string
	root := r.Entries(r.TreeOf(r.Tip()))
	for i, e := range root {
		if e.Name == "x" {
			x = e.ID
			root[i].ID = r.Tree(append([]vt.Entry{{Mode: "100644", Name: "a", ID: r.Write("blob", nil)}}, r.Entries(x)...)...)
		}
	}
	r.Commit(vt.Commit{Tree: r.Tree(root...), By: r.Key("alice")})
	rejected(t, r, s, verify.TreeInvalid, `the name "a" twice`)
}

func TestMalformedTree(t *testing.T) {
	for _, raw := range []string{"junk", "100644 a", "100644 a\x00short", "100644 \x00", "1006440000 a\x0001234567890123456789"} {
		r := vt.New(t, vt.InMemory(), vt.WithPolicy(openPolicy()))
		s := enrol(t, r)
		r.Commit(vt.Commit{Tree: r.Write("tree", []byte(raw)), By: r.Key("alice")})
		rejected(t, r, s, verify.TreeInvalid, "root folder")
	}
}

// TestBadTreeIsNotCovered: a bad tree that the next commit mends is still refused.
func TestBadTreeIsNotCovered(t *testing.T) {
	r := vt.New(t, vt.InMemory(), vt.WithPolicy(openPolicy()))
	s := enrol(t, r)
	bad := r.Commit(vt.Commit{Submodules: vt.Files{"sub": r.Anchor()}, By: r.Key("alice")})
	r.Commit(vt.Commit{Remove: []string{"sub"}, By: r.Key("alice")})
	if v := rejected(t, r, s, verify.TreeInvalid, "sub is a submodule"); v.Commit != bad {
		t.Fatalf("offending commit is %s, want %s", v.Commit, bad)
	}
}

func TestLimits(t *testing.T) {
	many := vt.Files{}
	for i := range 11 {
		many[fmt.Sprintf("f%d", i)] = fmt.Sprint(i)
	}
	for name, c := range map[string]struct {
		limits verify.Limits
		files  vt.Files
		reason string
		words  string
	}{
		"files":         {verify.Limits{Files: 12}, many, verify.TooLarge, "more than 12 files"},
		"files, enough": {verify.Limits{Files: 13}, many, verify.Accepted, ""},
		"blob":          {verify.Limits{BlobBytes: 1000}, vt.Files{"big.cue": strings.Repeat("x", 1001)}, verify.TooLarge, "big.cue has 1001 bytes, over the bound of 1000"},
		"blob, enough":  {verify.Limits{BlobBytes: 1000}, vt.Files{"big.cue": strings.Repeat("x", 1000)}, verify.Accepted, ""},
		"depth":         {verify.Limits{Depth: 3}, vt.Files{"a/b/c/d": "x"}, verify.TooLarge, "a/b/c/d is 4 deep"},
		"path":          {verify.Limits{PathBytes: 20}, vt.Files{"aaaaaaaaaa/bbbbbbbbbb": "x"}, verify.TooLarge, "a path of 21 bytes"},
		"tree":          {verify.Limits{TreeBytes: 100}, many, verify.TooLarge, "the root folder has"},
		"commit":        {verify.Limits{CommitBytes: 100}, many, verify.TooLarge, "commit "},
	} {
		t.Run(name, func(t *testing.T) {
			r := vt.New(t, vt.InMemory(), vt.WithPolicy(openPolicy()))
			s := enrol(t, r)
			r.Push("alice", c.files)
			v, err := verify.Verify(t.Context(), r, verify.Request{State: s, Tip: r.Tip(), Limits: c.limits})
			if err != nil || v.Reason != c.reason || !strings.Contains(v.Message, c.words) {
				t.Fatalf("verdict is %s: %s, %v", v.Reason, v.Message, err)
			}
		})
	}
}

// TestFilesAreCounted: moving all files is no more files, and what was removed makes room.
func TestFilesAreCounted(t *testing.T) {
	files, moved := vt.Files{}, vt.Files{}
	for i := range 10 {
		files[fmt.Sprintf("old/%d", i)] = fmt.Sprint(i)
		moved[fmt.Sprintf("new/%d", i)] = fmt.Sprint(i)
	}
	r := vt.New(t, vt.InMemory(), vt.WithPolicy(openPolicy()), vt.WithFiles(files))
	s := enrol(t, r)
	if s.Files != 12 {
		t.Fatalf("%d files at the anchor, want 12", s.Files)
	}
	r.Commit(vt.Commit{Files: moved, Remove: []string{"old"}, By: r.Key("alice")})
	r.Commit(vt.Commit{Files: vt.Files{"new/0": "changed"}, Remove: []string{"new/1"}, By: r.Key("alice")})
	v, err := verify.Verify(t.Context(), r, verify.Request{State: s, Tip: r.Tip(), Limits: verify.Limits{Files: 12}})
	if err != nil || !v.Accepted || v.State.Files != 11 {
		t.Fatalf("verdict is %s: %s with %d files, %v", v.Reason, v.Message, v.State.Files, err)
	}
}

// TestMillionFiles offers a tree of a million files, in six objects: what it costs is bounded.
func TestMillionFiles(t *testing.T) {
	r := vt.New(t, vt.InMemory(), vt.WithPolicy(openPolicy()))
	s := enrol(t, r)
	id, mode := r.Write("blob", []byte("x")), "100644"
	for range 6 {
		var entries []vt.Entry
		for i := range 10 {
			entries = append(entries, vt.Entry{Mode: mode, Name: fmt.Sprint(i), ID: id})
		}
		id, mode = r.Tree(entries...), "40000"
	}
	r.Commit(vt.Commit{Tree: r.Tree(append(r.Entries(r.TreeOf(r.Tip())), vt.Entry{Mode: mode, Name: "x", ID: id})...), By: r.Key("alice")})
	o := &counting{Repo: r}
	v, err := verify.Verify(t.Context(), o, verify.Request{State: s, Tip: r.Tip(), Limits: verify.Limits{Files: 20_000}})
	if err != nil || v.Reason != verify.TooLarge || !strings.Contains(v.Message, "more than 20000 files") {
		t.Fatalf("verdict is %s: %s, %v", v.Reason, v.Message, err)
	}
	if o.reads > 20_100 {
		t.Fatalf("%d objects were read", o.reads)
	}
}

// counting counts what is read.
type counting struct {
	*vt.Repo
	reads int
}

func (c *counting) Object(id string) (string, []byte, error) {
	c.reads++
	return c.Repo.Object(id)
}

// sized knows sizes, and fails the test if a blob over the bound is read nonetheless.
type sized struct {
	*vt.Repo
	t     *testing.T
	sizes map[string]int64
}

func (s *sized) Size(id string) (string, int64, error) {
	kind, raw, err := s.Repo.Object(id)
	if size, ok := s.sizes[id]; ok {
		return kind, size, err
	}
	return kind, int64(len(raw)), err
}

func (s *sized) Object(id string) (string, []byte, error) {
	if _, ok := s.sizes[id]; ok {
		s.t.Errorf("blob %s was read", id)
	}
	return s.Repo.Object(id)
}

func TestGigabyteIsNotRead(t *testing.T) {
	r := vt.New(t, vt.InMemory(), vt.WithPolicy(openPolicy()))
	s := enrol(t, r)
	r.Push("alice", vt.Files{"disk.img": "stands for a gigabyte"})
	o := &sized{Repo: r, t: t, sizes: map[string]int64{r.Write("blob", []byte("stands for a gigabyte")): 1 << 30}}
	v, err := verify.Verify(t.Context(), o, verify.Request{State: s, Tip: r.Tip()})
	if err != nil || v.Reason != verify.TooLarge || !strings.Contains(v.Message, "disk.img has 1073741824 bytes") {
		t.Fatalf("verdict is %s: %s, %v", v.Reason, v.Message, err)
	}
}
