package pack

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// entry is what is known of one object of a pack.
type entry struct {
	id   ID
	kind Kind // ofsDelta or refDelta until resolved
	crc  uint32
	off  int64
	// from is where the base of an ofsDelta begins.
	from int64
	// size is that of the object, inflated and resolved.
	size int64
}

// Received is a pack that was read, checked and indexed, but not yet installed.
type Received struct {
	// Sum is the pack's checksum, which names its files.
	Sum ID
	// Commits are the ids of its commits.
	Commits []ID
	// Needs are the ids its objects point to and it does not hold, sorted.
	Needs []ID

	bytes   int64
	entries []entry // sorted by id
}

// Len is the number of objects.
func (r *Received) Len() int { return len(r.entries) }

// Bytes is the pack's size as it is stored.
func (r *Received) Bytes() int64 { return r.bytes }

// Kind gives the kind of one of its objects, and whether it has it.
func (r *Received) Kind(id ID) (Kind, bool) {
	i, ok := slices.BinarySearchFunc(r.entries, id, func(e entry, id ID) int { return compareIDs(e.id, id) })
	if !ok {
		return 0, false
	}
	return r.entries[i].kind, true
}

// receiver is one pack on its way in.
type receiver struct {
	bounds   Bounds
	s        *stream
	inf      inflater
	entries  []entry
	bases    map[int]ID // of refDeltas, by position in entries
	inflated int64
	links    linkSet
	commits  []ID
}

// Receive reads a pack from in, writes it to file, and resolves and hashes every object in it. Nothing over a bound is
// stored or held in memory. It does not sync the file.
func Receive(ctx context.Context, in io.Reader, file *os.File, bounds Bounds) (*Received, error) {
	out := bufio.NewWriterSize(file, 256<<10)
	r := &receiver{bounds: bounds, s: newStream(in, out, bounds.Bytes), bases: map[int]ID{}}
	r.links.max = 4 * int(bounds.Objects)
	sum, err := r.scan(ctx)
	if err != nil {
		return nil, err
	}
	if err := out.Flush(); err != nil {
		return nil, err
	}
	if err := r.resolve(ctx, file); err != nil {
		return nil, err
	}
	slices.SortFunc(r.entries, func(a, b entry) int { return compareIDs(a.id, b.id) })
	got := &Received{Sum: sum, Commits: r.commits, bytes: r.s.offset(), entries: r.entries}
	for _, id := range r.links.all() {
		if _, ok := got.Kind(id); !ok {
			got.Needs = append(got.Needs, id)
		}
	}
	return got, nil
}

// scan reads the pack once, front to back, as it arrives: what is over a bound is refused before the rest is sent.
func (r *receiver) scan(ctx context.Context) (ID, error) {
	var head [12]byte
	if _, err := io.ReadFull(r.s, head[:]); err != nil {
		return ID{}, cut(err)
	}
	if string(head[:4]) != "PACK" || binary.BigEndian.Uint32(head[4:]) != 2 {
		return ID{}, fmt.Errorf("%w: it does not begin like a pack of version 2", ErrInvalid)
	}
	count := int64(binary.BigEndian.Uint32(head[8:]))
	if count > r.bounds.Objects {
		return ID{}, fmt.Errorf("%w: the pack holds %d objects, allowed are %d", ErrTooLarge, count, r.bounds.Objects)
	}
	r.entries = make([]entry, 0, count)
	for range count {
		if err := ctx.Err(); err != nil {
			return ID{}, err
		}
		if err := r.scanEntry(); err != nil {
			return ID{}, err
		}
	}
	return r.s.trailer()
}

// scanEntry reads one entry. Whole objects are hashed on the way; of deltas only the sizes are looked at.
func (r *receiver) scanEntry() error {
	if err := r.s.beginObject(); err != nil {
		return err
	}
	e := entry{off: r.s.offset()}
	h, err := readHeader(r.s)
	if err != nil {
		return invalid(e.off, err)
	}
	e.kind, e.size = h.kind, h.size
	if err := r.afford(e.off, h.size); err != nil {
		return err
	}
	switch h.kind {
	case ofsDelta, refDelta:
		err = r.scanDelta(&e, h)
	case Blob: // may be large and points nowhere: not held
		sum := newHash(Blob, h.size)
		if err = r.inf.copy(sum, r.s, h.size); err == nil {
			e.id, err = finish(sum)
		}
	default:
		var raw []byte
		if raw, err = r.inf.bytes(r.s, h.size); err == nil {
			err = r.take(&e, raw)
		}
	}
	if err != nil {
		return invalid(e.off, err)
	}
	e.crc, err = r.s.endObject()
	r.entries = append(r.entries, e)
	return err
}

// scanDelta checks the sizes a delta claims.
func (r *receiver) scanDelta(e *entry, h header) error {
	delta, err := r.inf.bytes(r.s, h.size)
	if err != nil {
		return err
	}
	if _, e.size, err = deltaSizes(delta); err != nil {
		return err
	}
	if err := r.afford(e.off, e.size); err != nil {
		return err
	}
	if h.kind == refDelta {
		r.bases[len(r.entries)] = h.base
		return nil
	}
	if e.from = e.off - h.back; h.back <= 0 || e.from < 12 {
		return errors.New("a delta's base is outside of the pack")
	}
	return nil
}

// afford counts inflated bytes and refuses what is over a bound.
func (r *receiver) afford(off, size int64) error {
	if size > r.bounds.ObjectBytes {
		return fmt.Errorf("%w: an object of %d bytes, allowed are %d", ErrTooLarge, size, r.bounds.ObjectBytes)
	}
	if r.inflated += size; r.inflated > r.bounds.InflatedBytes {
		return fmt.Errorf("%w: the objects have over %d bytes together", ErrTooLarge, r.bounds.InflatedBytes)
	}
	return nil
}

// take hashes a resolved object and remembers what it points to.
func (r *receiver) take(e *entry, raw []byte) error {
	var err error
	if e.id, err = Hash(e.kind, raw); err != nil {
		return err
	}
	if e.kind == Commit {
		r.commits = append(r.commits, e.id)
	}
	return r.links.add(e.kind, e.id, raw)
}

// invalid says where in the pack something is wrong. Bounds and errors of reading or writing are passed on as they are.
func invalid(off int64, err error) error {
	var path *os.PathError
	if errors.Is(err, ErrTooLarge) || errors.As(err, &path) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: at byte %d: %w", ErrInvalid, off, cut(err))
}
