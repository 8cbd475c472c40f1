package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// Record is one record. Its bytes are valid until the function that was given it returns.
type Record struct {
	Bucket     string // at the top
	Nested     []byte // the name of a bucket in that bucket; nil if the record is in none
	Key, Value []byte
}

// Check reads the structure of the whole file without a memory map and without believing anything: every page is there, is
// what refers to it says, belongs to one owner only, and its keys are in order. bbolt checks none of this and panics later, also in
// goroutines of its own, or gives a shorter answer. What values hold is not checked.
func Check(path string) error {
	return walk(path, func(w *walker) error {
		if err := w.tree(w.head.root, Record{}, nil, nil); err != nil {
			return err
		}
		return w.freePages()
	})
}

// Salvage calls visit with every record that can still be reached, and gives the damage it met on the way. A record may be
// spoiled, or older than the newest: visit has to prove it.
func Salvage(path string, visit func(Record) error) (damage, err error) {
	err = walk(path, func(w *walker) error {
		w.visit = visit
		w.bad = func(err error) { damage = errors.Join(damage, err) }
		return w.tree(w.head.root, Record{}, nil, nil)
	})
	if errors.Is(err, ErrDamaged) {
		return errors.Join(damage, err), nil
	}
	return damage, err
}

func walk(path string, f func(*walker) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	prefetch(file)
	size := uint64(os.Getpagesize())
	m, ok := newestHead(file, size)
	length := uint64(info.Size()) / size
	if !ok || m.pages > 1<<40 {
		return fmt.Errorf("%w: neither of its two heads can be read", ErrDamaged)
	}
	return f(&walker{f: file, head: m, length: length, seen: make([]uint64, min(m.pages, length)/64+1)})
}

type walker struct {
	f      io.ReaderAt
	head   head
	length uint64 // of the file, in pages
	seen   []uint64
	depth  int
	bufs   [][]byte // one for each level of the tree, used again
	room   int      // bytes of the page that was read last, of which only the first may have been read

	visit func(Record) error
	bad   func(error) // takes damage and lets the walk go on; nil: the first damage ends it
}

// damaged gives the error that ends the walk, or nil if it is to go on.
func (w *walker) damaged(page uint64, format string, args ...any) error {
	err := fmt.Errorf("%w: page %d %s", ErrDamaged, page, fmt.Sprintf(format, args...))
	if w.bad != nil {
		w.bad(err)
		return nil
	}
	return err
}

// claim marks pages as belonging to someone; false if they do already or are not in the file.
func (w *walker) claim(page, count uint64) bool {
	if page < 2 || count > w.head.pages || page+count > min(w.head.pages, w.length) {
		return false
	}
	for p := page; p < page+count; p++ {
		if w.seen[p/64]&(1<<(p%64)) != 0 {
			return false
		}
		w.seen[p/64] |= 1 << (p % 64)
	}
	return true
}

// tree walks the tree under a page. Its first key is low, and all are below high; nil is no bound.
func (w *walker) tree(page uint64, in Record, low, high []byte) error {
	w.depth++
	defer func() { w.depth-- }()
	raw, err := w.page(page)
	if err != nil {
		return w.damaged(page, "cannot be used: %v", err)
	}
	elements, err := parse(raw, w.room, low, high)
	if errors.Is(err, errBeyond) && len(raw) < w.room {
		if raw, err = w.rest(page, raw); err == nil {
			elements, err = parse(raw, w.room, low, high)
		}
	}
	if err != nil {
		if err := w.damaged(page, "%v", err); err != nil {
			return err
		}
	}
	if flagsOf(raw) == flagBranch {
		for i, e := range elements {
			next := high
			if i+1 < len(elements) {
				next = elements[i+1].key
			}
			if err := w.tree(e.child, in, e.key, next); err != nil {
				return err
			}
		}
		return nil
	}
	return w.leaf(page, in, elements)
}

// leaf gives what is in a leaf; in says in which bucket that is.
func (w *walker) leaf(page uint64, in Record, elements []element) error {
	for _, e := range elements {
		switch {
		case !e.bucket && in.Bucket != "" && w.visit != nil:
			in.Key, in.Value = e.key, e.value
			if err := w.visit(in); err != nil {
				return err
			}
		case e.bucket:
			below := Record{Bucket: in.Bucket, Nested: e.key}
			if in.Bucket == "" {
				below = Record{Bucket: string(e.key)}
			}
			if err := w.bucket(page, below, e.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// bucket walks a bucket: its value is the page of its root, a sequence, and, if there is no such page, a page inside the value.
func (w *walker) bucket(page uint64, in Record, value []byte) error {
	if len(value) < 16 {
		return w.damaged(page, "holds a bucket without a root")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return w.tree(root, in, nil, nil)
	}
	inline := value[16:]
	if len(inline) < pageHeader || flagsOf(inline) != flagLeaf {
		return w.damaged(page, "holds a bucket that cannot be read")
	}
	elements, err := parse(inline, len(inline), nil, nil)
	if err != nil {
		if err := w.damaged(page, "holds a bucket: %v", err); err != nil {
			return err
		}
	}
	return w.leaf(page, in, elements)
}

// page reads and claims a page with what overflows it.
func (w *walker) page(id uint64) ([]byte, error) {
	if id < 2 || id >= min(w.head.pages, w.length) {
		return nil, errors.New("it is not in the file")
	}
	for len(w.bufs) <= w.depth {
		w.bufs = append(w.bufs, make([]byte, w.head.size))
	}
	buf := w.bufs[w.depth][:w.head.size]
	if _, err := w.f.ReadAt(buf, int64(id*w.head.size)); err != nil {
		return nil, err
	}
	own, flags := binary.NativeEndian.Uint64(buf), flagsOf(buf)
	if own != id || flags != flagBranch && flags != flagLeaf {
		return nil, fmt.Errorf("it says that it is page %d of kind %#x", own, flags)
	}
	more := uint64(binary.NativeEndian.Uint32(buf[12:]))
	if !w.claim(id, more+1) {
		return nil, errors.New("it overlaps another page or the end")
	}
	w.room = int((more + 1) * w.head.size)
	if more > 0 && w.visit != nil {
		return w.rest(id, buf)
	}
	return buf, nil
}

// rest reads what overflows a page.
func (w *walker) rest(id uint64, buf []byte) ([]byte, error) {
	buf = slices.Grow(buf, w.room-len(buf))[:w.room]
	w.bufs[w.depth] = buf
	_, err := w.f.ReadAt(buf[w.head.size:], int64((id+1)*w.head.size))
	return buf, err
}

func flagsOf(page []byte) uint16 { return binary.NativeEndian.Uint16(page[8:]) }

type element struct {
	bucket     bool
	child      uint64
	key, value []byte
}

// errBeyond: a key is not in what was read of its page.
var errBeyond = errors.New("has a key beyond its end")

// parse gives the elements of a page that has so much room, up to the first that cannot be right. Of values it gives what was read.
func parse(page []byte, room int, low, high []byte) ([]element, error) {
	count := int(binary.NativeEndian.Uint16(page[10:]))
	branch := flagsOf(page) == flagBranch
	if branch && count == 0 {
		return nil, errors.New("has no branches")
	}
	elements := make([]element, 0, min(count, len(page)/pageHeader))
	for i := range count {
		at := pageHeader + 16*i // both kinds of elements have 16 bytes
		if at+16 > len(page) {
			return elements, errBeyond
		}
		word := func(off int) uint64 { return uint64(binary.NativeEndian.Uint32(page[at+off:])) }
		var e element
		pos, keySize, valueSize := word(0), word(4), uint64(0)
		if branch {
			e.child = binary.NativeEndian.Uint64(page[at+8:])
		} else {
			e.bucket = word(0)&1 != 0
			pos, keySize, valueSize = word(4), word(8), word(12)
		}
		start, end := uint64(at)+pos, uint64(at)+pos+keySize+valueSize // of 32 bits each: no overflow
		if end > uint64(room) || keySize == 0 {
			return elements, fmt.Errorf("has an element %d beyond its end", i)
		}
		if start+keySize > uint64(len(page)) || e.bucket && end > uint64(len(page)) {
			return elements, errBeyond
		}
		e.key, e.value = page[start:start+keySize], page[start+keySize:min(end, uint64(len(page)))]
		// bbolt finds a page's place in its parent by the first key, so these two must be the same.
		if i == 0 && low != nil && !bytes.Equal(e.key, low) {
			return elements, errors.New("does not begin with the key that leads to it")
		}
		if i > 0 && bytes.Compare(e.key, elements[i-1].key) <= 0 || high != nil && bytes.Compare(e.key, high) >= 0 {
			return elements, fmt.Errorf("has keys out of order at element %d", i)
		}
		elements = append(elements, e)
	}
	return elements, nil
}

// freePages checks that the free list gives away nothing that is in use.
func (w *walker) freePages() error {
	if w.head.freelist == noFreelist {
		return nil
	}
	ids, own, err := readFreelist(w.f, w.head)
	if err != nil {
		return err
	}
	if !w.claim(w.head.freelist, own) {
		return w.damaged(w.head.freelist, "is the free list and something else")
	}
	for i := 0; i < len(ids); i += 8 {
		if id := binary.NativeEndian.Uint64(ids[i:]); !w.claim(id, 1) {
			return w.damaged(id, "is in use and free")
		}
	}
	return nil
}
