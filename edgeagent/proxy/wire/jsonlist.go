package wire

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// What a jsonList reads next.
type listState uint8

const (
	listStart     listState = iota // the brace that begins the list
	listFirstKey                   // a member's name, or the end
	listKey                        // a member's name
	listColon                      // the colon after it
	listValue                      // its value
	listAfter                      // a comma or the end
	listFirstItem                  // an item, or the end of items
	listItem                       // an item
	listAfterItem                  // a comma or the end of items
	listEnd                        // nothing
)

// jsonList is a ListScanner for JSON. The list's members may come in any order.
type jsonList struct {
	each     func(scope.Item) error
	hold     holder
	find     finder
	state    listState
	key      string // the member that is being read
	list     List
	own      names // what items are that do not say it
	seen     names // what the last item was
	items    int
	hasItems bool
}

func (s *jsonList) write(p []byte) error {
	for len(p) > 0 {
		inside := s.find.begun
		if !inside && isSpace(p[0]) {
			p = p[1:]
			continue
		}
		var n int
		var err error
		if inside || s.expectsValue(p[0]) {
			n, err = s.value(p)
		} else {
			n, err = 1, s.mark(p[0])
		}
		if err != nil {
			return s.at(err)
		}
		p = p[n:]
	}
	return nil
}

// at says where an error is.
func (s *jsonList) at(err error) error {
	if s.state == listItem || s.state == listFirstItem {
		return fmt.Errorf("list: item %d: %w", s.items, err)
	}
	return fmt.Errorf("list: %w", err)
}

// expectsValue tells whether a name, value or item begins with c.
func (s *jsonList) expectsValue(c byte) bool {
	switch s.state {
	case listKey, listItem:
		return c != ',' && c != ']' && c != '}' && c != ':'
	case listValue:
		return c != ',' && c != ']' && c != '}' && c != ':' && (s.key != "items" || c != '[')
	case listFirstKey:
		return c != '}'
	case listFirstItem:
		return c != ']'
	}
	return false
}

// mark reads a bracket, comma or colon.
func (s *jsonList) mark(c byte) error {
	switch {
	case s.state == listStart && c == '{':
		s.state = listFirstKey
	case s.state == listColon && c == ':':
		s.state = listValue
	case s.state == listAfter && c == ',':
		s.state = listKey
	case (s.state == listAfter || s.state == listFirstKey) && c == '}':
		s.state = listEnd
	case s.state == listValue && c == '[' && s.key == "items":
		if s.hasItems {
			return fmt.Errorf("%w JSON: items are there twice", ErrMalformed)
		}
		s.hasItems = true
		s.state = listFirstItem
	case s.state == listAfterItem && c == ',':
		s.state = listItem
	case (s.state == listAfterItem || s.state == listFirstItem) && c == ']':
		s.state = listAfter
	default:
		return fmt.Errorf("%w JSON: unexpected %q", ErrMalformed, c)
	}
	return nil
}

// value reads on in a name, value or item.
func (s *jsonList) value(p []byte) (int, error) {
	n, done := s.find.scan(p)
	if !done {
		return n, s.hold.add(p[:n], 0)
	}
	s.find = finder{}
	if s.state == listItem || s.state == listFirstItem {
		return n, s.item(p[:n])
	}
	whole, err := s.hold.peek(p[:n])
	if err != nil {
		return n, err
	}
	if end, err := skip(whole, 0); err != nil {
		return n, err
	} else if end != len(whole) {
		return n, malformed(end, "a value does not end here")
	}
	if s.state == listValue {
		s.state = listAfter
		return n, s.member(whole)
	}
	if whole[0] != '"' {
		return n, malformed(0, "a member's name is missing")
	}
	s.state = listColon
	s.key = string(unquote(whole))
	return n, nil
}

func (s *jsonList) item(last []byte) error {
	raw, err := s.hold.take(last, 0)
	if err != nil {
		return err
	}
	item, end, err := jsonItem(raw, 0, s.own, s.seen)
	if err == nil && end != len(raw) {
		err = malformed(end, "a value does not end here")
	}
	if err != nil {
		return err
	}
	s.seen = names{item.APIVersion, item.Kind}
	if err := s.each(item); err != nil {
		return err
	}
	s.items++
	s.state = listAfterItem
	return nil
}

// member reads what the list says of itself.
func (s *jsonList) member(b []byte) error {
	m := members{b: b, key: []byte(s.key)}
	switch s.key {
	case "apiVersion":
		s.list.APIVersion = string(m.text())
	case "kind":
		s.list.Kind.Kind = string(m.text())
	case "metadata":
		if !m.isNull() {
			m.err = s.metadata(b)
		}
	case "items": // an array is read item by item: see mark
		if !m.isNull() {
			m.err = malformed(0, "items are not an array")
		} else if s.hasItems {
			m.err = fmt.Errorf("%w JSON: items are there twice", ErrMalformed)
		}
		s.hasItems = true
	}
	s.own = s.list.items()
	return m.err
}

func (s *jsonList) metadata(b []byte) error {
	m := object(b, 0)
	for m.next() {
		switch string(m.key) {
		case "resourceVersion":
			s.list.Version = string(m.text())
		case "continue":
			s.list.Continue = string(m.text())
		case "remainingItemCount":
			value := m.skip()
			if m.err != nil || value[0] == 'n' {
				continue
			}
			var err error
			if s.list.Remaining, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return malformed(m.i, "remainingItemCount is not a whole number")
			}
		default:
			m.skip()
		}
	}
	return m.err
}

func (s *jsonList) close() (List, error) {
	switch {
	case s.state != listEnd:
		return List{}, fmt.Errorf("list: %w, after %d items", ErrTruncated, s.items)
	case !s.hasItems:
		return List{}, fmt.Errorf("%w: a %s has no items", ErrNotList, strings.TrimSpace(s.list.APIVersion+" "+s.list.Kind.Kind))
	}
	return s.list, nil
}
