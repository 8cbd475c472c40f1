package verify_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/verify"
	vt "github.com/holdfast-dev/holdfast/policy/verify/verifytest"
)

// store lets AppendToNote write into a Repo.
type store struct{ *vt.Repo }

func (s store) Write(kind string, raw []byte) (string, error) { return s.Repo.Write(kind, raw), nil }

// TestAppendToNote adds lines to notes however deep their folders are, and leaves all others as they were.
func TestAppendToNote(t *testing.T) {
	for levels := range 4 {
		r := newRepo(t)
		s := enrol(t, r)
		first := r.MergeRequest(cue("x"), nil)
		r.Countersign(first, "bob")
		r.FanOutNotes(levels)
		second := r.MergeRequest(cue("y"), nil)
		rejected(t, r, s, verify.Unsigned)
		for range 2 { // the second time nothing is left to add
			line, err := verify.Countersign(r.Raw(second), vt.Fleet, r.Key("alice"))
			if err != nil {
				t.Fatal(err)
			}
			next, err := verify.AppendToNote(r, store{r}, verify.NoteChange{Notes: r.Notes(), ID: second, Lines: []string{line}, Who: "A <a@example.com>", When: vt.Start})
			if err != nil {
				t.Fatal(err)
			}
			r.SetRef(vt.NotesRef, next)
		}
		accepted(t, r, s)
		if n, _, err := verify.ReadNote(r, r.Notes(), second, verify.Limits{}); err != nil || len(n.Countersignatures) != 1 {
			t.Fatalf("%d levels: note holds %d countersignatures, %v", levels, len(n.Countersignatures), err)
		}
	}
}

// TestAppendToDeepNotes: folders deeper than anyone looks do no harm.
func TestAppendToDeepNotes(t *testing.T) {
	r := newRepo(t)
	r.Note(r.Anchor(), "seen")
	r.FanOutNotes(19)
	next, err := verify.AppendToNote(r, store{r}, verify.NoteChange{Notes: r.Notes(), ID: r.Anchor(), Lines: []string{"one"}, Who: "A <a@example.com>", When: vt.Start})
	if err != nil {
		t.Fatal(err)
	}
	if _, text, err := verify.ReadNote(r, next, r.Anchor(), verify.Limits{}); err != nil || string(text) != "one\n" {
		t.Fatalf("note is %q, %v", text, err)
	}
}

// TestAppendToNoteKeepsWhatIsThere: a note of others that does not end in a line end stays whole.
func TestAppendToNoteKeepsWhatIsThere(t *testing.T) {
	r := newRepo(t)
	tree := r.Tree(vt.Entry{Mode: "100644", Name: r.Anchor(), ID: r.Write("blob", []byte("seen by someone"))})
	r.WriteNotes(tree)
	next, err := verify.AppendToNote(r, store{r}, verify.NoteChange{Notes: r.Notes(), ID: r.Anchor(), Lines: []string{"one\n", "two"}, Who: "A <a@example.com>", When: vt.Start})
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := verify.ReadNote(r, next, r.Anchor(), verify.Limits{})
	if want := "seen by someone\none\ntwo\n"; err != nil || string(text) != want {
		t.Fatalf("note is %q, %v", text, err)
	}
	if lines := strings.Split(string(r.Raw(next)), "\n"); !slices.Contains(lines, "parent "+r.Notes()) {
		t.Fatalf("the notes' history is lost: %q", lines)
	}
	if _, err := verify.AppendToNote(r, store{r}, verify.NoteChange{ID: "main"}); err == nil {
		t.Fatal("a name passed for an id")
	}
}
