package wire

import (
	"encoding/binary"
	"fmt"
)

// frameHead is the size of the length before a frame.
const frameHead = 4

// protoWatch is a WatchScanner for protobuf: four bytes of length and a metav1.WatchEvent, again and again.
type protoWatch struct {
	hold holder
	head [frameHead]byte
	size int // of head
	left int // of the frame, once head is whole
	seen names
}

func (s *protoWatch) between() bool { return s.size == 0 }

func (s *protoWatch) next(p []byte) (int, Frame, bool, error) {
	if s.size < len(s.head) {
		n := copy(s.head[s.size:], p)
		if s.size += n; s.size < len(s.head) {
			return n, Frame{}, false, nil
		}
		length := binary.BigEndian.Uint32(s.head[:])
		if int64(length) > int64(s.hold.limit-frameHead) {
			return n, Frame{}, false, fmt.Errorf("%w of %d bytes", ErrTooLarge, s.hold.limit-frameHead)
		}
		s.left = int(length)
		if s.left == 0 {
			return n, Frame{}, false, fmt.Errorf("%w protobuf: the frame is empty", ErrMalformed)
		}
		return n, Frame{}, false, nil
	}
	n := min(s.left, len(p))
	s.left -= n
	if s.left > 0 {
		return n, Frame{}, false, s.add(p[:n])
	}
	raw, err := s.take(p[:n])
	if err != nil {
		return n, Frame{}, false, err
	}
	s.size = 0
	frame, err := s.frame(raw)
	return n, frame, err == nil, err
}

// add holds a piece that is not the frame's last, the first after the length.
func (s *protoWatch) add(p []byte) error {
	if s.hold.buf == nil {
		if err := s.hold.add(s.head[:], len(p)+s.left); err != nil {
			return err
		}
	}
	return s.hold.add(p, s.left)
}

func (s *protoWatch) take(last []byte) ([]byte, error) {
	if s.hold.buf != nil {
		return s.hold.take(last, 0)
	}
	raw := make([]byte, 0, frameHead+len(last))
	return append(append(raw, s.head[:]...), last...), nil
}

func (s *protoWatch) frame(raw []byte) (Frame, error) {
	f := Frame{Raw: raw}
	event := message(raw[frameHead:])
	var body []byte
	for event.next() {
		switch event.num {
		case eventType:
			f.Type = frameType(event.text())
		case eventObject:
			extension := message(event.text())
			for extension.next() {
				if extension.num == extensionRaw {
					body = extension.text()
				}
			}
			event.after(&extension)
		}
	}
	if event.err != nil {
		return f, event.err
	}
	opened, err := open(body)
	if err != nil {
		return f, fmt.Errorf("object: %w", err)
	}
	s.seen = names{}.said(s.seen, opened.apiVersion, opened.kind)
	if f.Item, err = protoItem(opened.raw, s.seen); err != nil {
		return f, fmt.Errorf("object: %w", err)
	}
	return f, f.complete()
}
