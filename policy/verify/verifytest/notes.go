package verifytest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-dev/holdfast/policy/verify"
)

// Countersign adds the principals' countersignatures of the commit to refs/notes/holdfast, for the fleet of the policy.
func (r *Repo) Countersign(commit string, principals ...string) {
	r.tb.Helper()
	for _, p := range principals {
		r.CountersignFor(r.fleet, commit, r.Key(p))
	}
}

// CountersignFor adds a countersignature made for a fleet of that id.
func (r *Repo) CountersignFor(fleet, commit string, by ssh.Signer) {
	r.tb.Helper()
	line, err := verify.Countersign(r.Raw(commit), fleet, by)
	check(r.tb, err)
	r.Note(commit, line)
}

// Reanchor adds a re-anchor record signed by the principals, for the fleet of the policy.
func (r *Repo) Reanchor(from, to string, principals ...string) {
	r.tb.Helper()
	for _, p := range principals {
		line, err := verify.Reanchor(from, to, r.fleet, r.Key(p))
		check(r.tb, err)
		r.Note(from, line)
	}
}

// Note appends text to the note of an object and puts refs/notes/holdfast on it.
func (r *Repo) Note(id, text string) {
	r.tb.Helper()
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	r.SetNote(id, r.notes[id]+text)
}

// SetNote replaces the note of an object; an empty text removes it.
func (r *Repo) SetNote(id, text string) {
	r.tb.Helper()
	if r.notes[id] = text; text == "" {
		delete(r.notes, id)
	}
	r.WriteNotes(r.notesTree(0))
}

// WriteNotes puts refs/notes/holdfast on a commit of that tree.
func (r *Repo) WriteNotes(tree string) {
	r.tb.Helper()
	who := fmt.Sprintf("A Person <person@example.com> %d +0000\n", r.clock.Unix())
	r.SetRef(NotesRef, r.Write("commit", fmt.Appendf(nil, "tree %s\nauthor %scommitter %s\nNotes\n", tree, who, who)))
}

// FanOutNotes writes the notes again, in folders of two digits that many levels deep.
func (r *Repo) FanOutNotes(levels int) {
	r.tb.Helper()
	r.WriteNotes(r.notesTree(levels))
}

func (r *Repo) notesTree(levels int) string {
	changes := map[string]*Entry{}
	for _, id := range slices.Sorted(maps.Keys(r.notes)) {
		name := id
		for i := range levels {
			name = name[:3*i+2] + "/" + name[3*i+2:]
		}
		changes[name] = &Entry{Mode: "100644", ID: r.Write("blob", []byte(r.notes[id]))}
	}
	return r.edit("", changes)
}
