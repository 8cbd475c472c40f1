package wire

import (
	"fmt"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// WatchScanner takes the body of a WATCH in pieces and gives out its frames. Their bytes are theirs: they may be kept.
// Between frames it holds no memory.
type WatchScanner struct {
	each func(Frame) error
	body interface {
		// next reads on in p, to the end of a frame. It gives how many bytes it took, and the frame if one is whole.
		next(p []byte) (int, Frame, bool, error)
		// between tells whether the stream is between two frames.
		between() bool
	}
	frames int
	err    error
}

// NewWatchScanner makes a scanner that calls each for every frame, in order, as soon as it is complete. An error of each ends the scan.
func NewWatchScanner(encoding scope.Encoding, limits Limits, each func(Frame) error) *WatchScanner {
	limit := limits.object(8 << 20)
	s := &WatchScanner{each: each}
	switch encoding {
	case scope.JSON:
		s.body = &jsonWatch{hold: holder{limit: limit}}
	case scope.Protobuf:
		s.body = &protoWatch{hold: holder{limit: frameHead + limit}}
	default:
		s.err = unknownEncoding(encoding)
	}
	return s
}

// Write takes the next piece. After an error every Write gives it again.
func (s *WatchScanner) Write(p []byte) (int, error) {
	size := len(p)
	for s.err == nil && len(p) > 0 {
		n, frame, whole, err := s.body.next(p)
		if err == nil && whole {
			err = s.each(frame)
		}
		if err != nil {
			s.err = fmt.Errorf("watch: frame %d: %w", s.frames, err)
			break
		}
		if whole {
			s.frames++
		}
		p = p[n:]
	}
	if s.err != nil {
		return 0, s.err
	}
	return size, nil
}

// Close says whether the stream ended between two frames.
func (s *WatchScanner) Close() error {
	if s.err == nil && !s.body.between() {
		return fmt.Errorf("watch: frame %d: %w", s.frames, ErrTruncated)
	}
	return s.err
}

// complete fills in what a bookmark or error says.
func (f *Frame) complete() (err error) {
	switch f.Type {
	case "":
		return fmt.Errorf("%w: the frame has no type", ErrMalformed)
	case Bookmark:
		var value string
		value, _, err = annotation(f.Item, InitialEventsEnd)
		f.InitialEventsEnd = value == "true"
	case Error:
		var status Status
		status, err = ReadStatus(f.Item)
		f.Status = status.Code
	}
	return err
}
