package pack

import (
	"bufio"
	"bytes"
	"crypto/sha1" //nolint:gosec // an index's trailer is a checksum
	"encoding/binary"
	"fmt"
	"io"
)

// writeIndex writes an index of version 2: a fan-out table, then ids, checksums and offsets in the order of ids, then
// the offsets that do not fit into 31 bits, then two checksums.
func writeIndex(w io.Writer, entries []entry, packSum ID) error {
	sum := sha1.New()
	buf := bufio.NewWriterSize(io.MultiWriter(w, sum), 64<<10)
	u32 := func(n uint32) { buf.Write(binary.BigEndian.AppendUint32(buf.AvailableBuffer(), n)) } // bufio keeps the first error
	buf.Write([]byte{0xff, 't', 'O', 'c', 0, 0, 0, 2})
	i := 0
	for b := range 256 {
		for i < len(entries) && int(entries[i].id[0]) == b {
			i++
		}
		u32(uint32(i))
	}
	for i := range entries {
		buf.Write(entries[i].id[:])
	}
	for i := range entries {
		u32(entries[i].crc)
	}
	var far []uint64
	for i := range entries {
		if off := entries[i].off; off < 1<<31 {
			u32(uint32(off))
		} else {
			u32(1<<31 | uint32(len(far)))
			far = append(far, uint64(off))
		}
	}
	for _, off := range far {
		buf.Write(binary.BigEndian.AppendUint64(buf.AvailableBuffer(), off))
	}
	buf.Write(packSum[:])
	if err := buf.Flush(); err != nil {
		return err
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}

// index looks ids up in an index file. It holds the fan-out table in memory, nothing else.
type index struct {
	file    io.ReaderAt
	size    int64
	fan     [256]uint32
	packSum ID
}

const fanEnd = 8 + 256*4

// openIndex reads what it needs to look ids up, and checks that the sizes fit.
func openIndex(file io.ReaderAt, size int64) (*index, error) {
	x := &index{file: file, size: size}
	head := make([]byte, fanEnd)
	if _, err := file.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("%w: an index of %d bytes", ErrDamaged, size)
	}
	if !bytes.Equal(head[:8], []byte{0xff, 't', 'O', 'c', 0, 0, 0, 2}) {
		return nil, fmt.Errorf("%w: not an index of version 2", ErrDamaged)
	}
	last := uint32(0)
	for i := range x.fan {
		x.fan[i] = binary.BigEndian.Uint32(head[8+4*i:])
		if x.fan[i] < last {
			return nil, fmt.Errorf("%w: an index whose table falls", ErrDamaged)
		}
		last = x.fan[i]
	}
	if n := int64(last); size < fanEnd+n*28+40 || size > fanEnd+n*36+40 {
		return nil, fmt.Errorf("%w: an index of %d objects has %d bytes", ErrDamaged, n, size)
	}
	if _, err := file.ReadAt(x.packSum[:], size-40); err != nil {
		return nil, err
	}
	return x, nil
}

func (x *index) len() int64 { return int64(x.fan[255]) }

// id gives the id at a place in the order.
func (x *index) id(i int64) (id ID, err error) {
	_, err = x.file.ReadAt(id[:], fanEnd+i*20)
	return id, err
}

// find gives where an object begins in the pack.
func (x *index) find(id ID) (off int64, found bool, err error) {
	lo, hi := int64(0), int64(x.fan[id[0]])
	if id[0] > 0 {
		lo = int64(x.fan[id[0]-1])
	}
	for hi-lo > 64 {
		mid := (lo + hi) / 2
		at, err := x.id(mid)
		if err != nil {
			return 0, false, err
		}
		if compareIDs(at, id) <= 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	var block [65 * 20]byte
	part := block[:(hi-lo)*20]
	if _, err := x.file.ReadAt(part, fanEnd+lo*20); err != nil {
		return 0, false, err
	}
	for ; len(part) > 0; part, lo = part[20:], lo+1 {
		if bytes.Equal(part[:20], id[:]) {
			off, err := x.offset(lo)
			return off, err == nil, err
		}
	}
	return 0, false, nil
}

// offset gives where the object at a place in the order begins.
func (x *index) offset(i int64) (int64, error) {
	n := x.len()
	var b [8]byte
	if _, err := x.file.ReadAt(b[:4], fanEnd+n*24+i*4); err != nil {
		return 0, err
	}
	off := binary.BigEndian.Uint32(b[:])
	if off < 1<<31 {
		return int64(off), nil
	}
	at := fanEnd + n*28 + int64(off&^(1<<31))*8
	if at+8 > x.size-40 {
		return 0, fmt.Errorf("%w: an offset outside of the index", ErrDamaged)
	}
	if _, err := x.file.ReadAt(b[:], at); err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(b[:])), nil
}

// all gives every entry's id, checksum and offset, in the order of ids.
func (x *index) all() ([]entry, error) {
	n := x.len()
	raw := make([]byte, n*24)
	if _, err := x.file.ReadAt(raw, fanEnd); err != nil {
		return nil, err
	}
	out := make([]entry, n)
	for i := range out {
		copy(out[i].id[:], raw[i*20:])
		out[i].crc = binary.BigEndian.Uint32(raw[n*20+int64(i)*4:])
		off, err := x.offset(int64(i))
		if err != nil {
			return nil, err
		}
		out[i].off = off
	}
	return out, nil
}
