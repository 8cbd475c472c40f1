package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// Problem is one thing that is wrong in a fleet repo.
type Problem struct {
	// File is relative to the repo's root; "" if no file is to blame.
	File string `json:"file,omitempty"`
	// Line and Col count from 1; 0 means the whole file, or the whole line.
	Line int `json:"line,omitempty"`
	Col  int `json:"col,omitempty"`
	// Path is the CUE path, such as pool.nodes.till-1.arch.
	Path string `json:"path,omitempty"`
	// Message says what is wrong and, where it can, what to do.
	Message string `json:"message"`
	// Reason is a stable reason of package condition, if one is closer than InvalidFleet. It does not leave the process.
	Reason string `json:"-"`
}

// String gives "file:line:col: path: message" with what is known of it.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		if p.Col > 0 {
			fmt.Fprintf(&b, ":%d", p.Col)
		}
		b.WriteString(": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	return b.String() + p.Message
}

// Problems is everything that is wrong, sorted by file and place. As an error it is never empty.
type Problems []Problem

// Error gives one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// StableReason gives the reason a condition carries for it: the one that all of them share, else InvalidFleet.
func (ps Problems) StableReason() string {
	for _, p := range ps {
		if p.Reason == "" || p.Reason != ps[0].Reason {
			return condition.ReasonInvalidFleet
		}
	}
	if len(ps) == 0 {
		return condition.ReasonInvalidFleet
	}
	return ps[0].Reason
}

func (p *Problem) at(pos position) { p.File, p.Line, p.Col = pos.file, pos.line, pos.col }

// maxProblems bounds how many problems are told of one pool: who has more has one cause.
const maxProblems = 100

// tidy sorts the problems and tells what is wrong with the same field of many nodes, at the same place, once.
func (ps Problems) tidy() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col), strings.Compare(a.Path, b.Path), strings.Compare(a.Message, b.Message))
	})
	var out Problems
	seen, more := map[Problem]int{}, map[int]int{}
	for _, p := range ps {
		key := p
		key.Path = fieldOf(p.Path)
		if i, ok := seen[key]; ok && p.Line > 0 {
			if out[i].Path != p.Path {
				more[i]++
			}
			continue
		}
		seen[key] = len(out)
		out = append(out, p)
	}
	for i, n := range more {
		out[i].Message += fmt.Sprintf(" (and %d more like it)", n)
	}
	if n := len(out) - maxProblems; n > 0 {
		out = append(out[:maxProblems], Problem{Message: fmt.Sprintf("and %d more problems", n)})
	}
	return out
}

// fieldOf gives what a CUE path says of a node or a pool, without which node.
func fieldOf(cuePath string) string {
	labels := splitPath(cuePath)
	switch {
	case len(labels) > 3 && labels[0] == "pool" && labels[1] == "nodes":
		labels = labels[3:]
	case len(labels) > 1 && labels[0] == "pool" && labels[1] != "nodes":
		labels = labels[1:]
	}
	return strings.Join(labels, "\x00")
}
