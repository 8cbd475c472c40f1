package pack

import (
	"bufio"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

// reader reads objects of one pack file by where they begin.
type reader struct {
	file io.ReaderAt
	// end is where entries end and the trailer begins.
	end       int64
	maxObject int64
	// lookup finds the base of a refDelta.
	lookup func(ID) (int64, bool)
	// cache holds objects that deltas are built on; number keeps the packs that share one apart.
	cache  *cache[place]
	number int

	inf inflater
	buf *bufio.Reader
}

// place is where an object begins.
type place struct {
	pack int
	off  int64
}

// at positions a reader at an offset. The earlier one is no longer valid.
func (p *reader) at(off int64) *bufio.Reader {
	section := io.NewSectionReader(p.file, off, p.end-off)
	if p.buf == nil {
		p.buf = bufio.NewReaderSize(section, 8<<10)
	} else {
		p.buf.Reset(section)
	}
	return p.buf
}

// raw reads one entry as it is: an object, or a delta and where its base begins.
func (p *reader) raw(off int64) (kind Kind, data []byte, base int64, err error) {
	if off < 12 || off >= p.end {
		return 0, nil, 0, fmt.Errorf("an object is said to begin at byte %d, outside of the pack", off)
	}
	r := p.at(off)
	h, err := readHeader(r)
	if err != nil {
		return 0, nil, 0, err
	}
	if h.size > p.maxObject {
		return 0, nil, 0, fmt.Errorf("%w: an object of %d bytes, allowed are %d", ErrTooLarge, h.size, p.maxObject)
	}
	data, err = p.inf.bytes(r, h.size)
	if err != nil {
		return 0, nil, 0, err
	}
	switch h.kind {
	case ofsDelta:
		base = off - h.back
		if h.back <= 0 || base < 12 {
			err = fmt.Errorf("the base of the delta at byte %d is outside of the pack", off)
		}
	case refDelta:
		var ok bool
		if base, ok = p.lookup(h.base); !ok {
			err = fmt.Errorf("the base of the delta at byte %d, %s, is not in the pack", off, h.base)
		}
	}
	return h.kind, data, base, err
}

// read gives the object that begins at off, with deltas applied. It is not hashed.
func (p *reader) read(off int64) (Kind, []byte, error) {
	var deltas [][]byte
	var path []int64
	var held int64
	for {
		if o, ok := p.cache.get(place{p.number, off}); ok {
			return p.apply(o, deltas, path)
		}
		kind, data, base, err := p.raw(off)
		if err != nil {
			return 0, nil, err
		}
		if kind != ofsDelta && kind != refDelta {
			o := object{kind, data}
			p.cache.put(place{p.number, off}, o)
			return p.apply(o, deltas, path)
		}
		held += int64(len(data))
		if len(deltas) == maxChain || held > 4*p.maxObject {
			return 0, nil, fmt.Errorf("%w: a chain of more than %d deltas or %d bytes of them", ErrTooLarge, maxChain, 4*p.maxObject)
		}
		deltas, path, off = append(deltas, data), append(path, off), base
	}
}

// apply builds up from a base what deltas, nearest to the base last, make of it.
func (p *reader) apply(o object, deltas [][]byte, path []int64) (Kind, []byte, error) {
	for i := len(deltas) - 1; i >= 0; i-- {
		_, result, err := deltaSizes(deltas[i])
		if err != nil {
			return 0, nil, err
		}
		if result > p.maxObject {
			return 0, nil, fmt.Errorf("%w: an object of %d bytes, allowed are %d", ErrTooLarge, result, p.maxObject)
		}
		if o.raw, err = packfile.PatchDelta(o.raw, deltas[i]); err != nil {
			return 0, nil, err
		}
		deltas[i] = nil
		p.cache.put(place{p.number, path[i]}, o)
	}
	return o.kind, o.raw, nil
}

// size gives the kind and size of the object that begins at off: of a delta, by following it to its base.
func (p *reader) size(off int64) (Kind, int64, error) {
	size := int64(-1)
	for range maxChain {
		if o, ok := p.cache.get(place{p.number, off}); ok {
			if size < 0 {
				size = int64(len(o.raw))
			}
			return o.kind, size, nil
		}
		r := p.at(off)
		h, err := readHeader(r)
		if err != nil {
			return 0, 0, err
		}
		if h.kind != ofsDelta && h.kind != refDelta {
			if size < 0 {
				size = h.size
			}
			return h.kind, size, nil
		}
		if size < 0 {
			if size, err = p.deltaResult(r); err != nil {
				return 0, 0, err
			}
		}
		base, ok := off-h.back, true
		if h.kind == refDelta {
			base, ok = p.lookup(h.base)
		}
		if !ok || base < 12 || h.kind == ofsDelta && h.back <= 0 {
			return 0, 0, fmt.Errorf("the base of the delta at byte %d is not in the pack", off)
		}
		off = base
	}
	return 0, 0, fmt.Errorf("%w: a chain of more than %d deltas", ErrTooLarge, maxChain)
}

// deltaResult reads from a delta's first bytes what size it makes.
func (p *reader) deltaResult(r byteReader) (int64, error) {
	z, err := p.inf.open(r)
	if err != nil {
		return 0, err
	}
	var head [20]byte
	n, err := io.ReadFull(z, head[:])
	if err != nil && err != io.ErrUnexpectedEOF {
		return 0, err
	}
	_, size, err := deltaSizes(head[:n])
	return size, err
}
