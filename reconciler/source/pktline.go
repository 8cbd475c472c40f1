package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Git's framing: four hex digits of length, which count themselves, then the bytes. Lengths below four are marks.
const (
	flushPkt = "0000"
	delimPkt = "0001"
	// longestPkt is the longest packet there can be.
	longestPkt = 65520
)

// pkt frames one line.
func pkt(line string) string { return fmt.Sprintf("%04x%s\n", len(line)+5, line) }

// pktReader takes packets apart.
type pktReader struct {
	r   io.Reader
	buf [longestPkt]byte
}

// errServer is what a server says when it refuses.
type errServer struct{ text string }

func (e *errServer) Error() string { return "the server says: " + e.text }

// next gives the next packet's bytes, valid until the next call. mark is 0 for a flush, 1 for a delimiter, 2 for the end of
// a response, and -1 for a packet with bytes.
func (p *pktReader) next() (data []byte, mark int, err error) {
	if _, err := io.ReadFull(p.r, p.buf[:4]); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF { // not errors.Is: what broke the connection explains itself
			err = errors.New("the answer ends too early")
		}
		return nil, -1, err
	}
	n, err := strconv.ParseUint(string(p.buf[:4]), 16, 32)
	if err != nil || n == 3 || n > longestPkt {
		return nil, -1, fmt.Errorf("the answer is not Git's: %q where a length belongs", p.buf[:4])
	}
	if n < 4 {
		return nil, int(n), nil
	}
	data = p.buf[:n-4]
	if _, err := io.ReadFull(p.r, data); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF { // not errors.Is: what broke the connection explains itself
			err = errors.New("the answer ends in the middle")
		}
		return nil, -1, err
	}
	if text, ok := bytes.CutPrefix(data, []byte("ERR ")); ok {
		return nil, -1, &errServer{string(bytes.TrimSpace(text))}
	}
	return data, -1, nil
}

// line gives the next packet as text, without its line end.
func (p *pktReader) line() (string, int, error) {
	data, mark, err := p.next()
	return string(bytes.TrimSuffix(data, []byte("\n"))), mark, err
}

// sideband gives the pack out of a multiplexed answer: band 1. Band 2 is progress, band 3 a fatal error.
type sideband struct {
	pkts *pktReader
	rest []byte
	done bool
}

func (s *sideband) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.done {
			return 0, io.EOF
		}
		data, mark, err := s.pkts.next()
		switch {
		case err != nil:
			return 0, err
		case mark >= 0:
			s.done = true
		case len(data) == 0:
			return 0, errors.New("the answer is not Git's: an empty packet in a pack")
		case data[0] == 1:
			s.rest = data[1:]
		case data[0] == 3:
			return 0, &errServer{string(bytes.TrimSpace(data[1:]))}
		case data[0] != 2:
			return 0, fmt.Errorf("the answer is not Git's: band %d in a pack", data[0])
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
