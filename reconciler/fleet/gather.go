package fleet

import (
	"path"
	"slices"
	"strings"
)

// blob is a file of a tree by its content's id. Its data is nil until it is read.
type blob struct {
	path string
	hash string
	data []byte
}

// gathered is what one evaluation reads.
type gathered struct {
	blobs    []blob
	problems Problems // files that no evaluation can read
}

// shared gathers what every pool's evaluation reads: the root's files, cue.mod and policy.
func shared(t Tree) (gathered, error) {
	var g gathered
	entries, err := t.List(".")
	if err != nil {
		return g, err
	}
	for _, e := range entries {
		if e.Kind == Folder && e.Name != "cue.mod" && e.Name != "policy" {
			continue
		}
		if err := g.take(t, "", e.Name, e); err != nil {
			return g, err
		}
	}
	return g, nil
}

// own gathers the pool's own files.
func own(t Tree, pool string) (gathered, error) {
	var g gathered
	err := g.take(t, pool, poolsDir+pool, Entry{Name: pool, Kind: Folder})
	return g, err
}

// take takes in a file or, below a folder, all files that are needed.
func (g *gathered) take(t Tree, pool, name string, e Entry) error {
	if e.Kind == Folder {
		entries, err := t.List(name)
		if err != nil {
			return err
		}
		for _, sub := range entries {
			if sub.Name[0] == '.' || sub.Name[0] == '_' {
				continue
			}
			if err := g.take(t, pool, path.Join(name, sub.Name), sub); err != nil {
				return err
			}
		}
		return nil
	}
	if e.Kind == Symlink && (Needed(pool, name) || path.Dir(name) != ".") {
		g.problems = append(g.problems, Problem{File: name, Message: "is a symbolic link, and nodes follow none: put the file itself there, or what pools share at the root"})
		return nil
	}
	if e.Kind == Other && path.Dir(name) != "." {
		g.problems = append(g.problems, Problem{File: name, Message: "is neither a file nor a folder: nodes take no submodules and no special files"})
		return nil
	}
	if e.Kind != Regular || !Needed(pool, name) {
		return nil
	}
	b := blob{path: name, hash: e.Hash}
	if b.hash == "" {
		data, err := t.Read(name)
		if err != nil {
			return err
		}
		b.hash, b.data = blobHash(data), data
	}
	g.blobs = append(g.blobs, b)
	return nil
}

// files reads what is not read yet.
func (g *gathered) files(t Tree) ([]File, error) {
	out := make([]File, 0, len(g.blobs))
	for i := range g.blobs {
		b := &g.blobs[i]
		if b.data == nil {
			data, err := t.Read(b.path)
			if err != nil {
				return nil, err
			}
			b.data = data
		}
		out = append(out, File{Path: b.path, Data: b.data})
	}
	return out, nil
}

// PoolNames gives the names of the folders under pools/, sorted.
func PoolNames(t Tree) ([]string, error) {
	entries, err := t.List(strings.TrimSuffix(poolsDir, "/"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.Kind == Folder && e.Name[0] != '.' {
			out = append(out, e.Name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// strays gives what lies under pools/ and belongs to no pool.
func strays(t Tree) (Problems, error) {
	entries, err := t.List(strings.TrimSuffix(poolsDir, "/"))
	if err != nil {
		return nil, err
	}
	var ps Problems
	for _, e := range entries {
		name := poolsDir + e.Name
		switch {
		case e.Kind == Regular && path.Ext(e.Name) == ".cue":
			ps = append(ps, Problem{File: name, Message: "is not read: a pool's files are in a folder of its own, " + poolsDir + "<pool>/"})
		case e.Kind == Symlink || e.Kind == Other:
			ps = append(ps, Problem{File: name, Message: "is neither a file nor a folder: a pool is a folder of its own"})
		case e.Kind == Folder && e.Name[0] == '_':
			ps = append(ps, Problem{File: name, Message: "is passed over by CUE, since its name starts with an underscore: rename it"})
		}
	}
	return ps, nil
}

// Load gives what evaluating one pool of a tree reads. The error is Problems if a file cannot be what a node reads.
func Load(t Tree, fleet, pool string) (Input, error) {
	in := Input{Fleet: fleet, Pool: pool}
	for _, gather := range []func() (gathered, error){
		func() (gathered, error) { return shared(t) },
		func() (gathered, error) { return own(t, pool) },
	} {
		g, err := gather()
		if err != nil {
			return in, err
		}
		if len(g.problems) > 0 {
			return in, g.problems
		}
		files, err := g.files(t)
		if err != nil {
			return in, err
		}
		in.Files = append(in.Files, files...)
	}
	return in, nil
}
