package fleet

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"
)

// problems turns CUE's errors into Problems.
func (s *sources) problems(err error) Problems {
	var ps Problems
	byPath := map[string][]errors.Error{}
	var order []string
	for _, e := range errors.Errors(err) {
		p := strings.Join(e.Path(), ".")
		if strings.Contains(p, "@v") { // a loading error: the import path of the package itself
			p = ""
		}
		if _, ok := byPath[p]; !ok {
			order = append(order, p)
		}
		byPath[p] = append(byPath[p], e)
	}
	for _, p := range order {
		for _, c := range s.condense(byPath[p]) {
			ps = append(ps, s.place(p, c))
		}
	}
	return ps.tidy()
}

// complaint is one CUE error, or the sum of several.
type complaint struct {
	text string
	pos  []token.Pos
}

var (
	disjunction = regexp.MustCompile(`^\d+ errors in empty disjunction:?$`)
	conflicting = regexp.MustCompile(`^conflicting values (.+) and (.+)$`)
)

// condense sums up the errors of one value. Where none of several alternatives fits, CUE tells for each why; here an
// alternative that is merely another value says nothing once there is a better reason.
func (s *sources) condense(errs []errors.Error) []complaint {
	var reasons, conflicts []complaint
	alternatives := false
	for _, e := range errs {
		c := complaint{text: message(e), pos: errors.Positions(e)}
		switch {
		case disjunction.MatchString(c.text):
			alternatives = true
		case conflicting.MatchString(c.text):
			conflicts = append(conflicts, c)
		default:
			reasons = append(reasons, c)
		}
	}
	switch {
	case !alternatives:
		return append(reasons, conflicts...)
	case len(reasons) > 0 || len(conflicts) == 0:
		return reasons
	}
	for _, c := range conflicts {
		if len(s.written(c)) > 1 { // two values of the fleet repo itself: what the schemas would take is beside the point
			return []complaint{c}
		}
	}
	return []complaint{merge(conflicts)}
}

// written gives the places of plain values in the pool's and the root's files.
func (s *sources) written(c complaint) []position {
	literal := s.literals()
	var out []position
	for _, pos := range c.pos {
		if at := positionOf(pos); literal[at] < 0 && s.rank(at.file) < 2 && !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return out
}

// merge makes one of "conflicting values A and X", "conflicting values B and X" …: X is none of A, B.
func merge(conflicts []complaint) complaint {
	sum := complaint{}
	var pairs [][]string
	for _, c := range conflicts {
		pairs = append(pairs, conflicting.FindStringSubmatch(c.text)[1:])
		sum.pos = append(sum.pos, c.pos...)
	}
	common := ""
	for _, candidate := range []string{pairs[0][1], pairs[0][0]} {
		if !slices.ContainsFunc(pairs, func(p []string) bool { return !slices.Contains(p, candidate) }) {
			common = candidate
			break
		}
	}
	if common == "" || len(conflicts) == 1 {
		sum.text = conflicts[0].text
		return sum
	}
	var others []string
	for _, p := range pairs {
		other := p[0]
		if other == common {
			other = p[1]
		}
		if !slices.Contains(others, other) {
			others = append(others, other)
		}
	}
	sum.text = fmt.Sprintf("%s is none of %s", common, strings.Join(others, ", "))
	return sum
}

// message gives an error's text without its path and places, and without where CUE believes the repo to be.
func message(e errors.Error) string {
	var parts []string
	var err error = e
	for err != nil {
		ce, ok := err.(errors.Error)
		if !ok {
			parts = append(parts, err.Error())
			break
		}
		format, args := ce.Msg()
		if text := fmt.Sprintf(format, args...); text != "" {
			parts = append(parts, text)
		}
		err = errors.Unwrap(err)
	}
	text := strings.Join(parts, ": ")
	text = strings.ReplaceAll(text, mount+"/", "")
	return strings.ReplaceAll(text, mount, ".")
}

// hints say in words what the patterns of schemas and guardrails ask for.
var hints = map[string]string{
	`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`:                             `a DNS label: at most 63 lower case letters, digits and hyphens`,
	`^([1-9][0-9]{0,6}h)?([1-9][0-9]{0,6}m)?([1-9][0-9]{0,6}s)?$`:      `hours, minutes and seconds, such as "90s" or "1h30m"`,
	`^(0s|([1-9][0-9]{0,6}h)?([1-9][0-9]{0,6}m)?([1-9][0-9]{0,6}s)?)$`: `"0s", or hours, minutes and seconds, such as "720h"`,
	`^(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?$`:               `a label value as Kubernetes takes it: at most 63 letters, digits, "-", "_" and ".", with a letter or digit at both ends`,
}

var outOfPattern = regexp.MustCompile(`^invalid value (.+) \(out of bound =~(".*")\)$`)

// hint replaces a pattern by words.
func hint(text string) string {
	m := outOfPattern.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	pattern, err := strconv.Unquote(m[2])
	if words, ok := hints[pattern]; ok && err == nil {
		return m[1] + " is not " + words
	}
	return text
}

// place finds where to mend it: in the pool's own files first, then the root's, then policy; a rule's own place only
// if nothing of the fleet is to blame.
func (s *sources) place(cuePath string, c complaint) Problem {
	p := Problem{Path: cuePath, Message: hint(c.text)}
	var at []position
	for _, pos := range c.pos {
		if pos.Filename() != "" && !slices.Contains(at, positionOf(pos)) {
			at = append(at, positionOf(pos))
		}
	}
	literal := s.literals()
	slices.SortStableFunc(at, func(a, b position) int {
		if c := s.rank(a.file) - s.rank(b.file); c != 0 {
			return c
		}
		return literal[a] - literal[b]
	})
	if len(at) == 0 || s.rank(at[0].file) > 1 && cuePath != "" {
		if pos, ok := s.find(splitPath(cuePath)); ok {
			at = slices.Insert(at, 0, pos)
		}
	}
	if len(at) == 0 {
		p.File = s.dir
		return p
	}
	p.at(at[0])
	if conflicting.MatchString(c.text) {
		for _, other := range s.written(c) {
			if other != at[0] {
				p.Message += "; the other is at " + other.String()
				break
			}
		}
	}
	return p
}
