package wire

import "fmt"

// jsonWatch is a WatchScanner for JSON: one object after the other, with or without whitespace between them.
type jsonWatch struct {
	hold holder
	find finder
	seen names
}

func (s *jsonWatch) between() bool { return !s.find.begun }

func (s *jsonWatch) next(p []byte) (int, Frame, bool, error) {
	start := 0
	if !s.find.begun {
		if start = space(p, 0); start == len(p) {
			return start, Frame{}, false, nil
		}
		if p[start] != '{' {
			return start, Frame{}, false, fmt.Errorf("%w JSON: a frame begins with %q", ErrMalformed, p[start])
		}
	}
	n, whole := s.find.scan(p[start:])
	piece := p[start : start+n]
	if !whole {
		return start + n, Frame{}, false, s.hold.add(piece, 0)
	}
	s.find = finder{}
	raw, err := s.hold.take(piece, 1)
	if err != nil {
		return start + n, Frame{}, false, err
	}
	frame, err := s.frame(append(raw, '\n'))
	return start + n, frame, err == nil, err
}

func (s *jsonWatch) frame(raw []byte) (Frame, error) {
	f := Frame{Raw: raw}
	hasObject := false
	m := object(raw, 0)
	for m.next() {
		switch string(m.key) {
		case "type":
			f.Type = frameType(m.text())
		case "object":
			hasObject = true
			f.Item, m.i, m.err = jsonItem(raw, m.i, names{}, s.seen)
		default:
			m.skip()
		}
	}
	switch {
	case m.err != nil:
		return f, m.err
	case m.i != len(raw)-1:
		return f, malformed(m.i, "the frame does not end here")
	case !hasObject:
		return f, fmt.Errorf("%w JSON: the frame has no object", ErrMalformed)
	}
	s.seen = names{f.Item.APIVersion, f.Item.Kind}
	return f, f.complete()
}

// frameType gives a type without making a string for those that are known.
func frameType(b []byte) string {
	for _, known := range [...]string{Added, Modified, Deleted, Bookmark, Error} {
		if string(b) == known {
			return known
		}
	}
	return string(b)
}
