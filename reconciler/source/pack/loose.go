package pack

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// looseName is where an object that is in no pack has its file.
func looseName(dir string, id ID) string {
	name := id.String()
	return filepath.Join(dir, name[:2], name[2:])
}

// readLoose reads an object that has a file of its own.
func (s *Store) readLoose(id ID) (Kind, []byte, error) {
	for _, dir := range s.dirs {
		f, err := os.Open(looseName(dir, id))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, nil, err
		}
		kind, raw, err := s.inflateLoose(f)
		if err != nil && !errors.Is(err, ErrTooLarge) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return kind, raw, errors.Join(err, f.Close())
	}
	return 0, nil, ErrNotFound
}

func (s *Store) inflateLoose(f io.Reader) (Kind, []byte, error) {
	z, err := zlib.NewReader(f)
	if err != nil {
		return 0, nil, err
	}
	r := bufio.NewReader(z)
	head, err := r.ReadSlice(0)
	if err != nil {
		return 0, nil, err
	}
	word, digits, _ := bytes.Cut(head[:len(head)-1], []byte(" "))
	kind, ok := parseKind(string(word))
	size, err := strconv.ParseInt(string(digits), 10, 64)
	if !ok || err != nil || size < 0 {
		return 0, nil, errors.New("its header is not Git's")
	}
	if size > s.maxObject {
		return 0, nil, fmt.Errorf("%w: an object of %d bytes, allowed are %d", ErrTooLarge, size, s.maxObject)
	}
	var raw bytes.Buffer
	raw.Grow(int(size) + bytes.MinRead)
	if _, err := io.Copy(&raw, io.LimitReader(r, size+1)); err != nil {
		return 0, nil, err
	}
	if int64(raw.Len()) != size {
		return 0, nil, fmt.Errorf("it has %d bytes, its header says %d", raw.Len(), size)
	}
	return kind, raw.Bytes(), nil
}

// Prefixed lists the ids that begin with the given hex digits, of which there are at least four.
func (s *Store) Prefixed(digits string) ([]ID, error) {
	if len(digits) < 4 || len(digits) > 40 {
		return nil, nil
	}
	low, err := hex.DecodeString(digits + strings.Repeat("0", 40-len(digits)))
	if err != nil {
		return nil, nil
	}
	var found []ID
	for _, p := range s.packs {
		ids, err := p.prefixed(ID(low), digits)
		if err != nil {
			return nil, err
		}
		found = append(found, ids...)
	}
	for _, dir := range s.dirs {
		list, _ := os.ReadDir(filepath.Join(dir, digits[:2])) // most of these folders are not there
		for _, e := range list {
			if id, err := ParseID(digits[:2] + e.Name()); err == nil && strings.HasPrefix(id.String(), digits) {
				found = append(found, id)
			}
		}
	}
	slices.SortFunc(found, compareIDs)
	return slices.Compact(found), nil
}

// prefixed walks the ids of one index from low on.
func (x *index) prefixed(low ID, digits string) (found []ID, err error) {
	first := int64(0)
	if low[0] > 0 {
		first = int64(x.fan[low[0]-1])
	}
	for i := first; i < int64(x.fan[low[0]]); i++ {
		id, err := x.id(i)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(id.String(), digits) {
			found = append(found, id)
		}
	}
	return found, nil
}
