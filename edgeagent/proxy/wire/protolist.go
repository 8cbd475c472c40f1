package wire

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// What the field is part of that a protoList reads.
type protoLevel uint8

const (
	atMagic    protoLevel = iota // the four bytes before the envelope
	inEnvelope                   // runtime.Unknown
	inList                       // the list in its raw
)

// protoList is a ListScanner for protobuf. The envelope comes first and says how long the list is.
type protoList struct {
	each  func(scope.Item) error
	hold  holder
	level protoLevel
	// head collects a field's tag and length (or scalar value) until they are whole.
	head []byte
	room [4 + 2*10]byte
	// The field whose body is being read, and how much of it is to come.
	field   protowire.Number
	reading bool
	left    int
	// rest is how much of the list is to come.
	rest   uint64
	body   envelope
	names  names // of the items
	list   List
	items  int
	inItem bool
}

func (s *protoList) write(p []byte) error {
	for len(p) > 0 {
		n, err := s.step(p)
		if err == nil && s.level == inList && s.rest == 0 && !s.reading {
			err = s.boundary()
		}
		if err != nil {
			return s.at(err)
		}
		p = p[n:]
	}
	return nil
}

// at says where an error is.
func (s *protoList) at(err error) error {
	if s.inItem {
		return fmt.Errorf("list: item %d: %w", s.items, err)
	}
	return fmt.Errorf("list: %w", err)
}

// step reads on in a field's body, or one byte of what is before it.
func (s *protoList) step(p []byte) (int, error) {
	if s.reading {
		n := min(s.left, len(p))
		s.left -= n
		if s.level == inList {
			s.rest -= uint64(n)
		}
		if s.left > 0 {
			return n, s.piece(p[:n])
		}
		s.reading = false
		err := s.whole(p[:n])
		s.inItem = s.inItem && err != nil
		return n, err
	}
	if s.head == nil {
		s.head = s.room[:0]
	}
	s.head = append(s.head, p[0])
	if s.level == atMagic {
		return 1, s.magic()
	}
	if s.level == inList {
		s.rest--
	}
	return 1, s.header()
}

func (s *protoList) magic() error {
	if !strings.HasPrefix(magic, string(s.head)) {
		return fmt.Errorf("%w protobuf: the body does not begin with %q", ErrMalformed, magic)
	}
	if len(s.head) == len(magic) {
		s.level, s.head = inEnvelope, s.head[:0]
	}
	return nil
}

// boundary is after the last byte of the list.
func (s *protoList) boundary() error {
	if len(s.head) != 0 {
		return fmt.Errorf("%w protobuf: the list is longer than its envelope says", ErrMalformed)
	}
	s.level = inEnvelope
	return nil
}

// header begins a field's body when the head is whole.
func (s *protoList) header() error {
	num, typ, n := protowire.ConsumeTag(s.head)
	if n < 0 {
		return s.unfinished(n)
	}
	if typ != protowire.BytesType {
		size := protowire.ConsumeFieldValue(num, typ, s.head[n:])
		if size < 0 {
			return s.unfinished(size)
		}
		s.head = s.head[:0] // neither a list nor an envelope has such a field yet
		return nil
	}
	length, size := protowire.ConsumeVarint(s.head[n:])
	if size < 0 {
		return s.unfinished(size)
	}
	s.head = s.head[:0]
	return s.begin(num, length)
}

// unfinished waits for more of the head, if more can help.
func (s *protoList) unfinished(code int) error {
	err := protowire.ParseError(code)
	_, typ, n := protowire.ConsumeTag(s.head)
	group := n > 0 && (typ == protowire.StartGroupType || typ == protowire.EndGroupType)
	if len(s.head) == cap(s.head) || group || !truncated(err) {
		return fmt.Errorf("%w protobuf: %w", ErrMalformed, err)
	}
	return nil
}

// begin begins the body of a field.
func (s *protoList) begin(num protowire.Number, length uint64) error {
	if s.level == inList && length > s.rest {
		return fmt.Errorf("%w protobuf: field %d of the list is longer than the list", ErrMalformed, num)
	}
	if s.level == inEnvelope && num == envelopeRaw {
		return s.enter(length)
	}
	s.inItem = s.level == inList && num == listItems
	if length > uint64(s.hold.limit) {
		return fmt.Errorf("%w of %d bytes", ErrTooLarge, s.hold.limit)
	}
	s.field, s.left, s.reading = num, int(length), true
	if length > 0 {
		return nil
	}
	s.reading = false
	err := s.whole(nil)
	s.inItem = s.inItem && err != nil
	return err
}

// enter begins the list itself.
func (s *protoList) enter(length uint64) error {
	if s.body.hasRaw {
		return fmt.Errorf("%w protobuf: the list is there twice", ErrMalformed)
	}
	s.body.hasRaw = true
	s.list.APIVersion, s.list.Kind.Kind = string(s.body.apiVersion), string(s.body.kind)
	s.names = s.list.items()
	if s.names.kind == "" {
		return fmt.Errorf("%w: the body is a %s", ErrNotList, strings.TrimSpace(s.list.APIVersion+" "+s.list.Kind.Kind))
	}
	s.level, s.rest = inList, length
	return nil
}

// piece takes a part of a field's body that is not its last.
func (s *protoList) piece(p []byte) error { return s.hold.add(p, s.left) }

// whole takes the last part of a field's body.
func (s *protoList) whole(last []byte) error {
	if s.inItem {
		return s.item(last)
	}
	body, err := s.hold.take(last, 0)
	if err != nil {
		return err
	}
	if s.level == inEnvelope {
		return s.body.take(s.field, body)
	}
	if s.field != listMeta {
		return nil
	}
	f := message(body)
	for f.next() {
		switch f.num {
		case listVersion:
			s.list.Version = string(f.text())
		case listContinue:
			s.list.Continue = string(f.text())
		case listRemaining:
			s.list.Remaining = int64(f.value)
		}
	}
	return f.err
}

func (s *protoList) item(last []byte) error {
	raw, err := s.hold.take(last, 0)
	if err != nil {
		return err
	}
	item, err := protoItem(raw, s.names)
	if err != nil {
		return err
	}
	if err := s.each(item); err != nil {
		return err
	}
	s.items++
	return nil
}

func (s *protoList) close() (List, error) {
	if s.level != inEnvelope || s.reading || len(s.head) != 0 || !s.body.hasRaw {
		return List{}, fmt.Errorf("list: %w, after %d items", ErrTruncated, s.items)
	}
	return s.list, nil
}
