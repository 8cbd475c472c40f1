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
	// Reason is a stable reason of package condition, if there is one closer than InvalidFleet. It does not leave the process.
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
