package bolt

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// bbolt's file format, as far as it is checked here: a page starts with id (8 bytes), flags (2), count (2) and overflow (4).
const (
	pageHeader   = 16
	metaSize     = 64
	metaMagic    = 0xED0CDAED
	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	noFreelist   = ^uint64(0)
	manyFree     = 0xFFFF // a count that means: the first entry is the count
)

// Probe checks, without a memory map, what opening relies on: a meta page with a right checksum, a file that is as long as
// it says, and a free list that lies within it.
func Probe(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := probe(f)
	if err != nil || m.freelist == noFreelist {
		return err
	}
	_, _, err = readFreelist(f, m)
	return err
}

// head is what a meta page says.
type head struct{ root, freelist, pages, tx, size uint64 }

func probe(f *os.File) (head, error) {
	info, err := f.Stat()
	if err != nil {
		return head{}, err
	}
	m, ok := newestHead(f, uint64(os.Getpagesize()))
	if !ok {
		return head{}, fmt.Errorf("%w: neither of its two heads can be read", ErrDamaged)
	}
	if length := uint64(info.Size()); m.pages > length/m.size {
		return m, fmt.Errorf("%w: cut short at %d of %d bytes", ErrDamaged, length, m.pages*m.size)
	}
	return m, nil
}

func newestHead(f io.ReaderAt, size uint64) (newest head, ok bool) {
	for i := range uint64(2) {
		var b [metaSize]byte
		if _, err := f.ReadAt(b[:], int64(i*size+pageHeader)); err != nil {
			continue
		}
		sum := fnv.New64a()
		sum.Write(b[:metaSize-8])
		if binary.NativeEndian.Uint32(b[0:]) != metaMagic || binary.NativeEndian.Uint64(b[56:]) != sum.Sum64() || uint64(binary.NativeEndian.Uint32(b[8:])) != size {
			continue
		}
		word := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
		m := head{root: word(16), freelist: word(32), pages: word(40), tx: word(48), size: size}
		if !ok || m.tx > newest.tx {
			newest, ok = m, true
		}
	}
	return newest, ok
}

// readFreelist gives the free pages, and how many pages the list itself has.
func readFreelist(f io.ReaderAt, m head) (ids []byte, own uint64, err error) {
	bad := fmt.Errorf("%w: its free list cannot be read", ErrDamaged)
	var h [pageHeader + 8]byte
	if m.freelist >= m.pages {
		return nil, 0, fmt.Errorf("%w: its free list is not in it", ErrDamaged)
	}
	if _, err := f.ReadAt(h[:], int64(m.freelist*m.size)); err != nil {
		return nil, 0, err
	}
	count, overflow := uint64(binary.NativeEndian.Uint16(h[10:])), uint64(binary.NativeEndian.Uint32(h[12:]))
	if binary.NativeEndian.Uint64(h[:]) != m.freelist || binary.NativeEndian.Uint16(h[8:]) != flagFreelist || m.freelist+overflow >= m.pages {
		return nil, 0, bad
	}
	start := uint64(pageHeader)
	if count == manyFree {
		count, start = binary.NativeEndian.Uint64(h[pageHeader:]), pageHeader+8
	}
	if count > m.pages || start+8*count > (overflow+1)*m.size {
		return nil, 0, bad
	}
	ids = make([]byte, 8*count)
	_, err = f.ReadAt(ids, int64(m.freelist*m.size+start))
	return ids, overflow + 1, err
}

// Commits gives the number of the file's newest transaction: it counts commits, each of which is two flushes.
func Commits(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	m, ok := newestHead(f, uint64(os.Getpagesize()))
	if !ok {
		return 0, fmt.Errorf("%s: %w: neither of its two heads can be read", path, ErrDamaged)
	}
	return m.tx, nil
}
