package pack

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
)

// header is what precedes an entry's deflated bytes.
type header struct {
	kind Kind
	// size is that of the inflated bytes: of the object, or of the delta.
	size int64
	// back is how far before this entry the base of an ofsDelta begins.
	back int64
	// base is the base of a refDelta.
	base ID
}

// readHeader reads an entry's header.
func readHeader(r io.ByteReader) (header, error) {
	c, err := r.ReadByte()
	if err != nil {
		return header{}, err
	}
	h := header{kind: Kind(c >> 4 & 7), size: int64(c & 15)}
	for shift := 4; c&0x80 != 0; shift += 7 {
		if c, err = r.ReadByte(); err != nil {
			return h, err
		}
		if shift > 50 {
			return h, errors.New("an entry's size has too many digits")
		}
		h.size |= int64(c&0x7f) << shift
	}
	switch h.kind {
	case Commit, Tree, Blob, Tag:
		return h, nil
	case ofsDelta:
		h.back, err = readBack(r)
		return h, err
	case refDelta:
		for i := range h.base {
			if h.base[i], err = r.ReadByte(); err != nil {
				return h, err
			}
		}
		return h, nil
	}
	return h, fmt.Errorf("an entry has unknown %s", h.kind)
}

// readBack reads the distance of an ofsDelta: seven bits a byte, the highest first, each continuation adding one.
func readBack(r io.ByteReader) (int64, error) {
	c, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	n := int64(c & 0x7f)
	for i := 0; c&0x80 != 0; i++ {
		if i > 7 {
			return 0, errors.New("a delta's distance has too many digits")
		}
		if c, err = r.ReadByte(); err != nil {
			return 0, err
		}
		n = (n+1)<<7 | int64(c&0x7f)
	}
	return n, nil
}

// deltaSizes reads what a delta begins with: the size of its base and of what it makes.
func deltaSizes(delta []byte) (base, result int64, err error) {
	base, rest, err := varint(delta)
	if err != nil {
		return 0, 0, err
	}
	result, _, err = varint(rest)
	return base, result, err
}

func varint(p []byte) (int64, []byte, error) {
	var n int64
	for i, c := range p {
		if i > 7 {
			break
		}
		n |= int64(c&0x7f) << (7 * i)
		if c&0x80 == 0 {
			return n, p[i+1:], nil
		}
	}
	return 0, nil, errors.New("a delta does not begin with two sizes")
}

// byteReader is what inflating needs so as to take no byte too many.
type byteReader interface {
	io.Reader
	io.ByteReader
}

// inflater inflates one entry after the other with one set of buffers.
type inflater struct{ z io.ReadCloser }

// open starts inflating at r.
func (i *inflater) open(r byteReader) (io.Reader, error) {
	if i.z == nil {
		z, err := zlib.NewReader(r)
		i.z = z
		return z, err
	}
	return i.z, i.z.(zlib.Resetter).Reset(r, nil)
}

// copy inflates into w and makes sure that it is exactly size bytes.
func (i *inflater) copy(w io.Writer, r byteReader, size int64) error {
	z, err := i.open(r)
	if err != nil {
		return err
	}
	n, err := io.Copy(w, io.LimitReader(z, size+1)) // one more: so that the checksum behind the last byte is read, too
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("an entry says it has %d bytes but has %d or more", size, n)
	}
	return nil
}

// bytes inflates into memory.
func (i *inflater) bytes(r byteReader, size int64) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(int(min(size, 64<<10)) + bytes.MinRead)
	if err := i.copy(&b, r, size); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
