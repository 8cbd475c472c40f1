package verify

import (
	"bytes"
	"context"
	"strings"
)

// changes are what a commit changes against its first parent, and what came of checking it.
type changes struct {
	// files is how many more files there are, or fewer.
	files int
	// added counts the files that came or changed, whatever went.
	added int
	// touched is called with each changed path: a file added, removed, or with another content or mode.
	touched func(path string)
}

// differ compares two trees. It goes only where they differ, and checks all that is new: so what it costs depends on the change,
// and not on the size of the fleet.
type differ struct {
	ctx    context.Context
	reader *reader
	out    changes
}

// diffTrees compares the trees; an old one of "" is empty. base is how many files the old one has.
func diffTrees(ctx context.Context, r *reader, old, new string, base int, touched func(string)) (changes, error) {
	d := &differ{ctx: ctx, reader: r, out: changes{touched: touched}}
	if err := d.folder(old, new, nil); err != nil {
		return changes{}, err
	}
	if base+d.out.files > r.limits.Files {
		return changes{}, d.tooMany()
	}
	return d.out, nil
}

// folder compares two folders of the same path; an id of "" is none.
func (d *differ) folder(oldID, newID string, path []string) error {
	if oldID == newID {
		return nil
	}
	if err := d.ctx.Err(); err != nil {
		return err
	}
	old, err := d.open(oldID, path)
	if err != nil {
		return err
	}
	now, err := d.open(newID, path)
	if err != nil {
		return err
	}
	if newID != "" && !now.more && len(path) > 0 {
		return reject(TreeInvalid, "the folder %s is empty, which Git does not write", strings.Join(path, "/"))
	}
	for old.more || now.more {
		if err := d.step(old, now, path); err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) open(id string, path []string) (*cursor, error) {
	if id == "" {
		return &cursor{}, nil
	}
	raw, err := d.reader.tree(id, strings.Join(path, "/"))
	if err != nil {
		return nil, err
	}
	c, err := newCursor(raw)
	return c, malformed(err, path)
}

func malformed(err error, path []string) error {
	if err == nil {
		return nil
	}
	where := "the root folder"
	if len(path) > 0 {
		where = "the folder " + strings.Join(path, "/")
	}
	return reject(TreeInvalid, "%s holds %v", where, err)
}

// step handles the next name of the two folders.
func (d *differ) step(old, now *cursor, path []string) error {
	order := 0
	switch {
	case !old.more:
		order = 1
	case !now.more:
		order = -1
	default:
		order = compareEntries(old.entry, now.entry)
	}
	var err error
	switch {
	case order < 0:
		err = d.removed(old.entry, path)
	case order > 0:
		err = d.new(now.entry, "", path)
	case old.entry.mode == now.entry.mode && bytes.Equal(old.entry.id, now.entry.id):
	case now.entry.mode == modeTree: // then the old one is a folder, too: the order tells them from files
		err = d.new(now.entry, old.entry.hexID(), path)
	default:
		d.out.files--
		err = d.new(now.entry, "", path)
	}
	if err != nil {
		return err
	}
	if order == 0 {
		if err := skipSame(old, now); err != nil {
			return malformed(err, path)
		}
	}
	if order <= 0 {
		if err := old.next(); err != nil {
			return malformed(err, path)
		}
	}
	if order >= 0 {
		return malformed(now.next(), path)
	}
	return nil
}

func (d *differ) removed(e entry, path []string) error {
	path = append(path, string(e.name))
	if e.mode == modeTree {
		return d.folder(e.hexID(), "", path)
	}
	d.out.files--
	d.out.touched(strings.Join(path, "/"))
	return nil
}

// new checks an entry that is new or changed. oldTree is what a folder was before, or "".
func (d *differ) new(e entry, oldTree string, path []string) error {
	limits := d.reader.limits
	folder := strings.Join(path, "/")
	if err := checkName(e.name); err != nil {
		return malformed(err, path)
	}
	path = append(path, string(e.name))
	full := strings.Join(path, "/")
	switch {
	case len(e.name) > limits.NameBytes:
		return reject(TooLarge, "a name of %d bytes in %q, over the bound of %d", len(e.name), folder, limits.NameBytes)
	case len(full) > limits.PathBytes:
		return reject(TooLarge, "a path of %d bytes below %q, over the bound of %d", len(full), path[0], limits.PathBytes)
	case len(path) > limits.Depth:
		return reject(TooLarge, "the path %s is %d deep, over the bound of %d", full, len(path), limits.Depth)
	}
	if e.mode == modeTree {
		return d.folder(oldTree, e.hexID(), path)
	}
	d.out.files++
	if d.out.added++; d.out.added > limits.Files {
		return d.tooMany()
	}
	d.out.touched(full)
	return d.leaf(e, full, len(path)-1)
}

func (d *differ) tooMany() error {
	return reject(TooLarge, "the revision has more than %d files, which is the bound", d.reader.limits.Files)
}

// leaf checks a file or symlink.
func (d *differ) leaf(e entry, path string, depth int) error {
	switch e.mode {
	case modeSubmodule:
		return reject(TreeInvalid, "%s is a submodule: submodules are not supported; put the files themselves into the fleet repo", path)
	case modeSymlink:
		target, err := d.reader.object(e.hexID(), kindBlob, "the target of symlink "+path, int64(d.reader.limits.PathBytes))
		if err != nil {
			return err
		}
		if err := checkSymlink(string(target), depth); err != nil {
			return reject(TreeInvalid, "the symlink %s has %v", path, err)
		}
		return nil
	}
	return d.reader.checkBlob(e.hexID(), path)
}
