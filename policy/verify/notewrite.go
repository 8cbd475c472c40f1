package verify

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Writer stores Git objects.
type Writer interface {
	// Write stores an object and gives its id.
	Write(kind string, raw []byte) (id string, err error)
}

// NoteChange adds lines to one note.
type NoteChange struct {
	// Notes is the commit the notes' ref points to, or "".
	Notes string
	// ID is the object the note is about.
	ID string
	// Lines are what Countersign or Reanchor gave. Those that the note has already are not added again.
	Lines []string
	// Who and When make the new commit: "A Person <person@example.com>".
	Who  string
	When time.Time
}

// AppendToNote writes the objects of a notes commit in which the note has the lines, too. It gives the commit that the notes' ref
// must be moved to, which is the old one if nothing was added.
func AppendToNote(o Objects, w Writer, c NoteChange) (string, error) {
	if !isID(c.ID) {
		return "", fmt.Errorf("note about %q: give a whole object id", c.ID)
	}
	r := newReader(o, Limits{})
	var root string
	if c.Notes != "" {
		old, err := r.commit(c.Notes)
		if err != nil {
			return "", fmt.Errorf("read notes: %w", err)
		}
		root = old.tree
	}
	_, text, err := ReadNote(o, c.Notes, c.ID, Limits{})
	if err != nil {
		return "", fmt.Errorf("read note about %s: %w", short(c.ID), err)
	}
	added := missingLines(text, c.Lines)
	if len(added) == 0 {
		return c.Notes, nil
	}
	blob, err := w.Write(kindBlob, append(text, added...))
	if err != nil {
		return "", err
	}
	tree, err := putNote(r, w, root, c.ID, blob)
	if err != nil {
		return "", fmt.Errorf("write note about %s: %w", short(c.ID), err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "tree %s\n", tree)
	if c.Notes != "" {
		fmt.Fprintf(&b, "parent %s\n", c.Notes)
	}
	fmt.Fprintf(&b, "author %[1]s %[2]d +0000\ncommitter %[1]s %[2]d +0000\n\nNotes added by holdfast\n", c.Who, c.When.Unix())
	return w.Write(kindCommit, b.Bytes())
}

// missingLines gives the lines that text does not have, ready to be put behind it.
func missingLines(text []byte, lines []string) []byte {
	have := strings.Split(string(text), "\n")
	var out []byte
	for _, l := range lines {
		if l = strings.TrimSuffix(l, "\n"); !slices.Contains(have, l) {
			out = append(out, l+"\n"...)
		}
	}
	if len(text) > 0 && text[len(text)-1] != '\n' && len(out) > 0 {
		out = append([]byte("\n"), out...)
	}
	return out
}

// putNote gives the tree that has the blob under a name. It goes by the folders that are there, since Git reads any mixture, and makes
// one for a name at the root, so that no folder grows beyond what is read.
func putNote(r *reader, w Writer, tree, name, blob string) (string, error) {
	entries, err := listNotes(r, tree)
	if err != nil {
		return "", err
	}
	flat := slices.ContainsFunc(entries, func(e entry) bool { return string(e.name) == name })
	folder := slices.IndexFunc(entries, func(e entry) bool { return e.mode == modeTree && string(e.name) == name[:2] })
	put, id := entry{mode: modeFile, name: []byte(name)}, blob
	if !flat && len(name) > 40-2*(maxFanOut-1) && (folder >= 0 || len(name) == 40) {
		sub := ""
		if folder >= 0 {
			sub = entries[folder].hexID()
		}
		put = entry{mode: modeTree, name: []byte(name[:2])}
		if id, err = putNote(r, w, sub, name[2:], blob); err != nil {
			return "", err
		}
	}
	put.id, _ = hex.DecodeString(id)
	entries = slices.DeleteFunc(entries, func(e entry) bool { return bytes.Equal(e.name, put.name) })
	entries = append(entries, put)
	slices.SortFunc(entries, compareEntries)
	var b bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&b, "%s %s\x00%s", e.mode, e.name, e.id)
	}
	return w.Write(kindTree, b.Bytes())
}

// listNotes gives the entries of a folder of notes; an id of "" is an empty one.
func listNotes(r *reader, tree string) ([]entry, error) {
	if tree == "" {
		return nil, nil
	}
	raw, err := r.boundedTree(tree, notesFolderName, maxNotesFolder)
	if err != nil {
		return nil, err
	}
	var entries []entry
	for len(raw) > 0 {
		e, rest, err := nextEntry(raw)
		if err != nil {
			return nil, fmt.Errorf("the notes' tree is malformed: %w", err)
		}
		entries, raw = append(entries, e), rest
	}
	return entries, nil
}
