package pack

import (
	"bytes"
	"fmt"
	"slices"
)

// linkSet gathers ids that objects point to, each once, without a map's weight.
type linkSet struct {
	ids    []ID
	sorted int // how many there were when duplicates were last removed
	max    int
}

func (l *linkSet) add(kind Kind, id ID, raw []byte) error {
	var err error
	switch kind {
	case Commit:
		err = l.addHeader(raw, "tree", "parent")
	case Tag:
		err = l.addHeader(raw, "object", "")
	case Tree:
		err = WalkTree(raw, func(mode string, _ []byte, to ID) error {
			if mode != Submodule {
				l.ids = append(l.ids, to)
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, id, err)
	}
	if len(l.ids) > 2*l.sorted+1<<16 {
		l.all()
	}
	if len(l.ids) > l.max {
		return fmt.Errorf("%w: its trees point to more than %d objects", ErrTooLarge, l.max)
	}
	return nil
}

// all gives the ids, sorted.
func (l *linkSet) all() []ID {
	slices.SortFunc(l.ids, compareIDs)
	l.ids = slices.Compact(l.ids)
	l.sorted = len(l.ids)
	return l.ids
}

// addHeader takes the ids of the first line, which must be there, and of those that follow it.
func (l *linkSet) addHeader(raw []byte, first, then string) error {
	want := first
	for {
		line, rest, _ := bytes.Cut(raw, []byte("\n"))
		key, value, ok := bytes.Cut(line, []byte(" "))
		if !ok || string(key) != want {
			if want == first {
				return fmt.Errorf("it does not begin with %q", first)
			}
			return nil
		}
		id, err := ParseID(string(value))
		if err != nil {
			return err
		}
		l.ids = append(l.ids, id)
		if raw, want = rest, then; want == "" {
			return nil
		}
	}
}

// Modes of tree entries, as they are written.
const (
	Folder    = "40000"
	Submodule = "160000"
	Symlink   = "120000"
)

// WalkTree calls f with each entry of a tree, in its order. The name is part of raw. What f returns ends the walk.
func WalkTree(raw []byte, f func(mode string, name []byte, id ID) error) error {
	for len(raw) > 0 {
		mode, rest, ok := bytes.Cut(raw, []byte(" "))
		if !ok || len(mode) == 0 || len(mode) > 6 {
			return fmt.Errorf("an entry has no mode")
		}
		name, rest, ok := bytes.Cut(rest, []byte{0})
		if !ok || len(name) == 0 || len(rest) < len(ID{}) {
			return fmt.Errorf("an entry is cut short")
		}
		if err := f(modeName(mode), name, ID(rest[:20])); err != nil {
			return err
		}
		raw = rest[20:]
	}
	return nil
}

// modeName gives the common modes without allocating.
func modeName(mode []byte) string {
	switch string(mode) {
	case Folder, "040000":
		return Folder
	case "100644":
		return "100644"
	case "100755":
		return "100755"
	}
	return string(mode)
}
