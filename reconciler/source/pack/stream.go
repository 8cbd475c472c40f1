package pack

import (
	"crypto/sha1" //nolint:gosec // a pack's trailer is a checksum; objects are hashed with collision detection
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// stream hands out a pack's bytes as they arrive. Everything handed out is also written to out, counted, and hashed.
// It is an io.ByteReader, so that inflating one object takes no byte of the next.
type stream struct {
	in    io.Reader
	out   io.Writer
	bound int64

	buf       []byte
	pos, mark int // buf[mark:pos] was handed out but not yet hashed and written
	read      int64
	flushed   int64
	sum       hash.Hash
	crc       uint32
	writeErr  error
}

func newStream(in io.Reader, out io.Writer, bound int64) *stream {
	return &stream{in: in, out: out, bound: bound, buf: make([]byte, 0, 64<<10), sum: sha1.New()}
}

// offset is how many bytes were handed out.
func (s *stream) offset() int64 { return s.flushed + int64(s.pos-s.mark) }

// flush accounts for the bytes handed out so far.
func (s *stream) flush() error {
	p := s.buf[s.mark:s.pos]
	s.mark = s.pos
	s.flushed += int64(len(p))
	s.sum.Write(p)
	s.crc = crc32.Update(s.crc, crc32.IEEETable, p)
	if s.writeErr == nil {
		_, s.writeErr = s.out.Write(p)
	}
	return s.writeErr
}

// fill reads more when all was handed out.
func (s *stream) fill() error {
	if s.pos < len(s.buf) {
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	n, err := io.ReadAtLeast(s.in, s.buf[:cap(s.buf)], 1)
	s.buf, s.pos, s.mark = s.buf[:n], 0, 0
	if s.read += int64(n); s.read > s.bound {
		return fmt.Errorf("%w: it has more than %d bytes", ErrNoRoom, s.bound)
	}
	return err
}

// Read hands out what is at hand.
func (s *stream) Read(p []byte) (int, error) {
	if err := s.fill(); err != nil {
		return 0, err
	}
	n := copy(p, s.buf[s.pos:])
	s.pos += n
	return n, nil
}

// ReadByte hands out one byte.
func (s *stream) ReadByte() (byte, error) {
	if s.pos == len(s.buf) {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	s.pos++
	return s.buf[s.pos-1], nil
}

// beginObject starts the checksum of one entry.
func (s *stream) beginObject() error {
	err := s.flush()
	s.crc = 0
	return err
}

// endObject gives the entry's checksum.
func (s *stream) endObject() (uint32, error) {
	err := s.flush()
	return s.crc, err
}

// trailer reads the pack's checksum, compares it, and makes sure that nothing follows.
func (s *stream) trailer() (ID, error) {
	var want, got ID
	if err := s.flush(); err != nil {
		return got, err
	}
	s.sum.Sum(got[:0])
	if _, err := io.ReadFull(s, want[:]); err != nil {
		return got, cut(err)
	}
	if got != want {
		return got, fmt.Errorf("%w: its checksum is %s, its bytes sum up to %s", ErrInvalid, want, got)
	}
	if _, err := s.ReadByte(); err != io.EOF {
		if err == nil {
			err = fmt.Errorf("%w: bytes after its end", ErrInvalid)
		}
		return got, err
	}
	return got, s.flush()
}

// cut says that a pack ends too early, where that is what happened.
func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it ends in the middle", ErrInvalid)
	}
	return err
}
