package fleet

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"
)

// position is a place in a fleet repo.
type position struct {
	file      string
	line, col int
}

func (p position) String() string {
	return p.file + ":" + strconv.Itoa(p.line) + ":" + strconv.Itoa(p.col)
}

func positionOf(pos token.Pos) position {
	return position{file: repoPath(pos.Filename()), line: pos.Line(), col: pos.Column()}
}

// repoPath makes a file name of CUE's loader relative to the repo's root.
func repoPath(name string) string { return strings.TrimPrefix(name, mount+"/") }

// sources are the files of one package, to find the place where a value was written: for what is missing, CUE knows
// only the rule that misses it.
type sources struct {
	dir   string // of the package: "." or pools/<pool>
	files []*ast.File
}

// newSources keeps the pool's own files before the root's.
func newSources(dir string, files []*ast.File) *sources {
	files = slices.Clone(files)
	s := &sources{dir: dir, files: files}
	slices.SortStableFunc(s.files, func(a, b *ast.File) int { return s.rank(repoPath(a.Filename)) - s.rank(repoPath(b.Filename)) })
	return s
}

// rank orders files by how likely a problem is to be mended there.
func (s *sources) rank(file string) int {
	switch {
	case path.Dir(file) == s.dir:
		return 0
	case inRoot(file):
		return 1
	case strings.HasPrefix(file, "policy/"):
		return 2
	}
	return 3
}

// problem makes a problem of the value at a CUE path, at the place that comes nearest to where it was written.
func (s *sources) problem(cuePath, message string) Problem {
	p := Problem{File: s.dir, Path: cuePath, Message: message}
	if pos, ok := s.find(splitPath(cuePath)); ok {
		p.at(pos)
	}
	return p
}

// literals gives -1 for the places of plain values: of all places in an error those say most.
func (s *sources) literals() map[position]int {
	out := map[position]int{}
	for _, f := range s.files {
		ast.Walk(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok {
				out[positionOf(lit.Pos())] = -1
			}
			return true
		}, nil)
	}
	return out
}

// find gives the place of the field with the longest common beginning with the path.
func (s *sources) find(labels []string) (position, bool) {
	var best token.Pos
	depth := 0
	for _, f := range s.files {
		for _, d := range f.Decls {
			if pos, n := deepest(d, labels); n > depth {
				best, depth = pos, n
			}
		}
	}
	return positionOf(best), depth > 0
}

// deepest finds, below a node of the syntax tree, the field that follows the labels furthest, and how far.
func deepest(n ast.Node, labels []string) (best token.Pos, depth int) {
	into := func(n ast.Node, labels []string, by int) {
		if pos, d := deepest(n, labels); d > 0 && d+by > depth {
			best, depth = pos, d+by
		}
	}
	switch x := n.(type) {
	case *ast.Field:
		if len(labels) == 0 || !matches(x.Label, labels[0]) {
			return best, 0
		}
		best, depth = x.Label.Pos(), 1
		into(x.Value, labels[1:], 1)
	case *ast.StructLit:
		for _, d := range x.Elts {
			into(d, labels, 0)
		}
	case *ast.EmbedDecl:
		into(x.Expr, labels, 0)
	case *ast.Comprehension:
		into(x.Value, labels, 0)
	case *ast.ParenExpr:
		into(x.X, labels, 0)
	case *ast.BinaryExpr:
		into(x.X, labels, 0)
		into(x.Y, labels, 0)
	}
	return best, depth
}

// matches says whether a label may be of that name: one that is computed may.
func matches(l ast.Label, name string) bool {
	switch x := l.(type) {
	case *ast.Ident, *ast.BasicLit:
		got, _, err := ast.LabelName(l)
		return err == nil && got == name
	case *ast.Interpolation: // "till-\(i)" begins and ends with plain text
		first, ok := x.Elts[0].(*ast.BasicLit)
		last, ok2 := x.Elts[len(x.Elts)-1].(*ast.BasicLit)
		return ok && ok2 && strings.HasPrefix(name, strings.TrimSuffix(strings.TrimPrefix(first.Value, `"`), `\(`)) &&
			strings.HasSuffix(name, strings.TrimSuffix(strings.TrimPrefix(last.Value, `)`), `"`))
	case *ast.ParenExpr:
		return true
	}
	return false
}

// splitPath takes a CUE path apart.
func splitPath(p string) []string {
	var out []string
	for p != "" {
		var label string
		if quoted, err := strconv.QuotedPrefix(p); err == nil && p[0] == '"' {
			label, _ = strconv.Unquote(quoted)
			p = strings.TrimPrefix(p[len(quoted):], ".")
		} else {
			label, p, _ = strings.Cut(p, ".")
		}
		out = append(out, label)
	}
	return out
}

// quoteLabel writes a field's name as a CUE path has it.
func quoteLabel(name string) string {
	if ast.IsValidIdent(name) {
		return name
	}
	return strconv.Quote(name)
}
