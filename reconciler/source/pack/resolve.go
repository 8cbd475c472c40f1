package pack

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"sort"
)

// resolve makes the objects that deltas stand for. It walks from bases to what is built on them, so that the base of
// each delta was made just before; a bounded cache holds it, and what falls out is made again.
func (r *receiver) resolve(ctx context.Context, file *os.File) error {
	onOffset, onID := r.dependents()
	if len(onOffset) == 0 && len(onID) == 0 {
		return nil
	}
	byID := map[ID]int64{} // where those begin that refDeltas are built on
	p := &reader{file: file, end: r.s.offset() - 20, cache: newCache[place](32 << 20), maxObject: r.bounds.ObjectBytes}
	p.lookup = func(id ID) (int64, bool) { off, ok := byID[id]; return off, ok }
	resolved := 0
	var stack []int
	for i := range r.entries {
		if k := r.entries[i].kind; k != ofsDelta && k != refDelta {
			stack = append(stack, i)
		}
	}
	whole := len(stack)
	for len(stack) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		i := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		e := &r.entries[i]
		if e.kind == ofsDelta || e.kind == refDelta {
			resolved++
			kind, raw, err := p.read(e.off)
			if err == nil {
				e.kind = kind
				err = r.take(e, raw)
			}
			if err != nil {
				return invalid(e.off, err)
			}
		}
		if next, ok := onID[e.id]; ok {
			byID[e.id] = e.off
			stack = append(stack, next...)
			delete(onID, e.id)
		}
		from, _ := slices.BinarySearchFunc(onOffset, e.off, func(i int, off int64) int { return cmp.Compare(r.entries[i].from, off) })
		for ; from < len(onOffset) && r.entries[onOffset[from]].from == e.off; from++ {
			stack = append(stack, onOffset[from])
		}
	}
	if whole+resolved != len(r.entries) {
		return fmt.Errorf("%w: %d deltas have no base in the pack", ErrInvalid, len(r.entries)-whole-resolved)
	}
	return nil
}

// dependents lists the deltas: those with a base by offset, sorted by it, and those with a base by id.
func (r *receiver) dependents() (onOffset []int, onID map[ID][]int) {
	onID = map[ID][]int{}
	for i := range r.entries {
		switch r.entries[i].kind {
		case ofsDelta:
			onOffset = append(onOffset, i)
		case refDelta:
			onID[r.bases[i]] = append(onID[r.bases[i]], i)
		}
	}
	sort.Slice(onOffset, func(a, b int) bool { return r.entries[onOffset[a]].from < r.entries[onOffset[b]].from })
	return onOffset, onID
}
