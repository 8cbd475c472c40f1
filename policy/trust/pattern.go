package trust

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// pattern is a path pattern: segments between slashes. A segment is literal, or holds one "*" that stands for any
// characters of one segment; the last may be "**", which stands for one or more whole segments.
type pattern struct{ segments []segment }

type segment struct {
	kind           segmentKind
	prefix, suffix string // around the "*"; a literal is all prefix
}

type segmentKind int

// Kinds, from the least to the most specific.
const (
	anySegments segmentKind = iota // "**"
	glob                           // "*", "*.cue"
	exact
)

func (s segment) literal() bool { return s.kind == exact }

func parsePattern(text string) (pattern, error) {
	if text == "" {
		return pattern{}, errors.New("empty")
	}
	parts := strings.Split(text, "/")
	var p pattern
	for i, part := range parts {
		s := segment{kind: exact, prefix: part}
		switch {
		case part == "", part == ".", part == "..":
			return pattern{}, fmt.Errorf("segment %q: no empty segments, no %q and no %q", part, ".", "..")
		case part == "**":
			if i != len(parts)-1 {
				return pattern{}, errors.New("\"**\" stands at the end only")
			}
			s = segment{kind: anySegments}
		case strings.Count(part, "*") == 1:
			prefix, suffix, _ := strings.Cut(part, "*")
			s = segment{kind: glob, prefix: prefix, suffix: suffix}
		case strings.Contains(part, "*"):
			return pattern{}, fmt.Errorf("segment %q: one \"*\" in a segment, or \"**\" alone at the end", part)
		}
		if strings.ContainsAny(part, "?[]{}!\\") {
			return pattern{}, fmt.Errorf("segment %q: \"*\" is the only wildcard", part)
		}
		p.segments = append(p.segments, s)
	}
	return p, nil
}

func (s segment) match(name string) bool {
	switch s.kind {
	case exact:
		return name == s.prefix
	case glob:
		return len(name) >= len(s.prefix)+len(s.suffix) && strings.HasPrefix(name, s.prefix) && strings.HasSuffix(name, s.suffix)
	}
	return true
}

func (p pattern) match(path []string) bool {
	last := len(p.segments) - 1
	for i, s := range p.segments {
		if i >= len(path) || !s.match(path[i]) {
			return false
		}
		if i == last {
			return s.kind == anySegments || len(path) == len(p.segments)
		}
	}
	return false
}

// compare says which of two patterns that match one path is the more specific: the first segment in which they differ decides, a
// literal over one with "*", more characters beside the "*" over fewer, anything over "**".
func (p pattern) compare(q pattern) int {
	for i := range min(len(p.segments), len(q.segments)) {
		if c := p.segments[i].compare(q.segments[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(p.segments), len(q.segments))
}

func (s segment) compare(t segment) int {
	return cmp.Or(cmp.Compare(s.kind, t.kind), func() int {
		if s.kind != glob {
			return 0
		}
		return cmp.Compare(len(s.prefix)+len(s.suffix), len(t.prefix)+len(t.suffix))
	}())
}

// ties tells whether some path is matched by both patterns while neither is the more specific.
func (p pattern) ties(q pattern) bool {
	if len(p.segments) != len(q.segments) {
		return false
	}
	for i, s := range p.segments {
		t := q.segments[i]
		if s.compare(t) != 0 {
			return false
		}
		switch s.kind {
		case exact:
			if s.prefix != t.prefix {
				return false
			}
		case glob:
			if !overlap(s.prefix, t.prefix, strings.HasPrefix) || !overlap(s.suffix, t.suffix, strings.HasSuffix) {
				return false
			}
		}
	}
	return true
}

func overlap(a, b string, within func(s, part string) bool) bool { return within(a, b) || within(b, a) }
