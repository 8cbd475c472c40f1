package wire

import "fmt"

// holder collects the pieces of one value, up to a limit. It holds no memory between values.
type holder struct {
	limit int
	buf   []byte
}

// add takes a piece. more is how many bytes are known to follow it, 0 if that is not known.
func (h *holder) add(p []byte, more int) error {
	size := len(h.buf) + len(p)
	if size+more > h.limit {
		return fmt.Errorf("%w of %d bytes", ErrTooLarge, h.limit)
	}
	if size > cap(h.buf) {
		// What has not come yet gets memory only as it comes: a length alone must cost nothing.
		room := size + min(more, max(size, 32<<10))
		if more == 0 {
			room = min(max(2*size, 512), h.limit)
		}
		h.buf = append(make([]byte, 0, room), h.buf...)
	}
	h.buf = append(h.buf, p...)
	return nil
}

// take gives what was collected and the last piece, in memory of the caller's own that is not much larger. extra is how many bytes
// the caller will append.
func (h *holder) take(last []byte, extra int) ([]byte, error) {
	size := len(h.buf) + len(last)
	if size > h.limit {
		return nil, fmt.Errorf("%w of %d bytes", ErrTooLarge, h.limit)
	}
	whole := h.buf
	h.buf = nil
	if room := size + extra; cap(whole) < room || cap(whole) > room+room/8 {
		whole = append(make([]byte, 0, room), whole...)
	}
	return append(whole, last...), nil
}

// peek is take for a value that the caller does not keep.
func (h *holder) peek(last []byte) ([]byte, error) {
	if len(h.buf) == 0 && len(last) <= h.limit {
		return last, nil
	}
	return h.take(last, 0)
}
