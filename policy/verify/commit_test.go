package verify_test

import (
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/verify"
	vt "github.com/holdfast-dev/holdfast/policy/verify/verifytest"
)

// TestCommitForm changes one thing in a good commit object: what Git would not write is no commit, signed or not.
func TestCommitForm(t *testing.T) {
	for name, c := range map[string]struct{ old, new string }{
		"no tree":                {"tree ", "tred "},
		"a long tree":            {"tree ", "tree 0"},
		"an upper-case id":       {"parent ", "parent A"},
		"two trees":              {"author ", "tree TREE\nauthor "},
		"a parent too late":      {"\n\n", "\nparent PARENT\n\n"},
		"a tree too late":        {"\n\n", "\ntree TREE\n\n"},
		"two authors":            {"\n\n", "\nauthor A <a> 1 +0000\n\n"},
		"two committers":         {"\n\n", "\ncommitter A <a> 1 +0000\n\n"},
		"no author":              {"author ", "autor "},
		"no committer":           {"committer ", "comitter "},
		"no mail address":        {"committer A Person <person@example.com>", "committer A Person"},
		"two mail addresses":     {"committer A Person <person@example.com>", "committer A <a> <b>"},
		"no date":                {"1767225660 +0000\n\n", "\n\n"},
		"a negative date":        {"1767225660 +0000\n\n", "-1 +0000\n\n"},
		"a date with a zero":     {"1767225660 +0000\n\n", "01767225660 +0000\n\n"},
		"the year 10000":         {"1767225660 +0000\n\n", "253402300800 +0000\n\n"},
		"a date beyond int64":    {"1767225660 +0000\n\n", "99999999999999999999 +0000\n\n"},
		"an odd time zone":       {"1767225660 +0000\n\n", "1767225660 +000\n\n"},
		"a time zone of letters": {"1767225660 +0000\n\n", "1767225660 +UTC0\n\n"},
		"a header without value": {"\n\n", "\nencoding\n\n"},
		"a header with a NUL":    {"\n\n", "\nencoding \x00\n\n"},
		"a header in Latin-1":    {"\n\n", "\nencöding x\n\n"},
		"a header without end":   {"\n\nchange\n", "\nencoding x"},
		"a fold without header":  {"\n\n", "\n x\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			s := enrol(t, r)
			good := string(r.Raw(r.Commit(vt.Commit{Files: cue("x"), Detached: true})))
			if !strings.Contains(good, c.old) {
				t.Fatalf("%q is not in %q", c.old, good)
			}
			raw := strings.Replace(good, c.old, c.new, 1)
			raw = strings.NewReplacer("TREE", r.TreeOf(r.Tip()), "PARENT", r.Tip()).Replace(raw)
			r.SetRef("refs/heads/main", r.Write("commit", []byte(raw)))
			rejected(t, r, s, verify.CommitInvalid, "is malformed: ")
		})
	}
}

// TestCommitFormAccepted: headers that Git and forges do write.
func TestCommitFormAccepted(t *testing.T) {
	for name, headers := range map[string]string{
		"an encoding":       "encoding ISO-8859-1\n",
		"a signed tag":      vt.Header("mergetag", "object 4b825dc642cb6eb9a060e54bf8d69288fbee4904\ntype commit\ntag v1\n\n-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----"),
		"an unknown header": "x-forge request 7\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			s := enrol(t, r)
			r.Commit(vt.Commit{Files: cue("x"), By: r.Key("alice"), Headers: headers})
			accepted(t, r, s)
		})
	}
}

// TestSubjectsAreFitForTerminals: what a stranger writes does not command a terminal.
func TestSubjectsAreFitForTerminals(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	r.Commit(vt.Commit{Files: cue("x"), By: r.Key("alice"), Message: "\x1b[2Jgone\u202e " + strings.Repeat("x", 100)})
	if got := judge(t, r, s).Commits[0].Subject; got != "?[2Jgone? "+strings.Repeat("x", 61)+"…" {
		t.Fatalf("subject is %q", got)
	}
}
