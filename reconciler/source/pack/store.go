package pack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Store reads objects from folders laid out as Git's objects/ is: packs, and objects of their own ("loose"). It is not
// safe for concurrent use.
type Store struct {
	dirs      []string
	packs     []*packFile // the one that answered last comes first
	maxObject int64
	objects   *cache[ID]
	bases     *cache[place]
}

// packFile is one open pack with its index.
type packFile struct {
	name string
	pack *os.File
	idx  *os.File
	*index
	reader reader
}

// OpenStore opens the folders' packs. A folder that is not there is skipped; a pack that cannot be right is ErrDamaged.
// Objects over maxObject bytes are ErrTooLarge.
func OpenStore(maxObject int64, dirs ...string) (*Store, error) {
	s := &Store{dirs: dirs, maxObject: maxObject, objects: newCache[ID](24 << 20), bases: newCache[place](24 << 20)}
	for _, dir := range dirs {
		names, err := indexes(dir)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		for _, name := range names {
			if err := s.openPack(name); err != nil {
				return nil, errors.Join(err, s.Close())
			}
		}
	}
	return s, nil
}

// indexes lists the index files of a folder.
func indexes(dir string) ([]string, error) {
	list, err := os.ReadDir(filepath.Join(dir, "pack"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range list {
		if strings.HasPrefix(e.Name(), "pack-") && strings.HasSuffix(e.Name(), ".idx") {
			names = append(names, filepath.Join(dir, "pack", e.Name()))
		}
	}
	return names, nil
}

// openPack opens one pack and compares what its two files say of each other.
func (s *Store) openPack(idxName string) (err error) {
	p := &packFile{name: strings.TrimSuffix(idxName, ".idx")}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open %s: %w", filepath.Base(p.name), err), p.close())
		}
	}()
	if p.idx, err = os.Open(idxName); err != nil {
		return err
	}
	if p.pack, err = os.Open(p.name + ".pack"); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: an index without its pack", ErrDamaged)
	} else if err != nil {
		return err
	}
	idxInfo, err := p.idx.Stat()
	if err != nil {
		return err
	}
	if p.index, err = openIndex(p.idx, idxInfo.Size()); err != nil {
		return err
	}
	info, err := p.pack.Stat()
	if err != nil {
		return err
	}
	var sum ID
	if info.Size() < 32 {
		return fmt.Errorf("%w: a pack of %d bytes", ErrDamaged, info.Size())
	}
	if _, err = p.pack.ReadAt(sum[:], info.Size()-20); err != nil {
		return err
	}
	if sum != p.packSum {
		return fmt.Errorf("%w: its index is of another pack, or the pack is cut short", ErrDamaged)
	}
	p.reader = reader{file: p.pack, end: info.Size() - 20, maxObject: s.maxObject, cache: s.bases, number: len(s.packs)}
	p.reader.lookup = func(id ID) (int64, bool) {
		off, ok, err := p.find(id)
		return off, ok && err == nil
	}
	s.packs = append(s.packs, p)
	return nil
}

func (p *packFile) close() error {
	var errs []error
	for _, f := range []*os.File{p.pack, p.idx} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// Close closes all files.
func (s *Store) Close() error {
	var errs []error
	for _, p := range s.packs {
		errs = append(errs, p.close())
	}
	s.packs = nil
	return errors.Join(errs...)
}

// Packs is the number of packs.
func (s *Store) Packs() int { return len(s.packs) }

// locate finds the pack that has an object.
func (s *Store) locate(id ID) (*packFile, int64, error) {
	for i, p := range s.packs {
		off, ok, err := p.find(id)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: read %s.idx: %w", ErrDamaged, filepath.Base(p.name), err)
		}
		if ok {
			copy(s.packs[1:i+1], s.packs[:i])
			s.packs[0] = p
			return p, off, nil
		}
	}
	return nil, 0, ErrNotFound
}

// Has says whether there is an object of that id, without reading it.
func (s *Store) Has(id ID) (bool, error) {
	_, _, err := s.locate(id)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return false, err
	}
	for _, dir := range s.dirs {
		if _, err := os.Lstat(looseName(dir, id)); err == nil {
			return true, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// Object reads an object and makes sure that its bytes have that id. The bytes are shared with later callers.
func (s *Store) Object(id ID) (Kind, []byte, error) {
	if o, ok := s.objects.get(id); ok {
		return o.kind, o.raw, nil
	}
	kind, raw, err := s.readObject(id)
	if err != nil {
		return 0, nil, fmt.Errorf("object %s: %w", id, err)
	}
	got, err := Hash(kind, raw)
	if err == nil && got != id {
		err = fmt.Errorf("its bytes have the id %s", got)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("object %s: %w: %w", id, ErrDamaged, err)
	}
	s.objects.put(id, object{kind, raw})
	return kind, raw, nil
}

func (s *Store) readObject(id ID) (Kind, []byte, error) {
	p, off, err := s.locate(id)
	if errors.Is(err, ErrNotFound) {
		return s.readLoose(id)
	}
	if err != nil {
		return 0, nil, err
	}
	kind, raw, err := p.reader.read(off)
	if err != nil && !errors.Is(err, ErrTooLarge) {
		err = fmt.Errorf("%w: %s.pack at byte %d: %w", ErrDamaged, filepath.Base(p.name), off, err)
	}
	return kind, raw, err
}

// Size gives an object's kind and size by reading what precedes its bytes. They are not checked against the id.
func (s *Store) Size(id ID) (Kind, int64, error) {
	if o, ok := s.objects.get(id); ok {
		return o.kind, int64(len(o.raw)), nil
	}
	p, off, err := s.locate(id)
	if errors.Is(err, ErrNotFound) {
		kind, raw, err := s.Object(id)
		return kind, int64(len(raw)), err
	}
	if err != nil {
		return 0, 0, err
	}
	kind, size, err := p.reader.size(off)
	if err != nil {
		err = fmt.Errorf("object %s: %w: %w", id, ErrDamaged, err)
	}
	return kind, size, err
}
