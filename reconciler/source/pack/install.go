package pack

import (
	"context"
	"crypto/sha1" //nolint:gosec // a pack's trailer is a checksum
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tempPrefix marks files that are not finished. Git uses the same, so its own clean-up knows them.
const tempPrefix = "tmp_pack_"

// Temp makes an unfinished pack file in an objects folder.
func Temp(dir string) (*os.File, error) {
	return os.CreateTemp(filepath.Join(dir, "pack"), tempPrefix)
}

// Install makes a received pack part of the folder: it syncs the pack, writes its index, and renames both into place,
// the index last. A crash at any point leaves either the whole pack or files that Clean removes. A pack without objects
// is dropped.
func Install(dir string, file *os.File, r *Received) error {
	if r.Len() == 0 {
		return os.Remove(file.Name())
	}
	return install(dir, file, r.entries, r.Sum)
}

func install(dir string, file *os.File, entries []entry, sum ID) (err error) {
	if err := file.Chmod(0o444); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	idx, err := os.CreateTemp(filepath.Join(dir, "pack"), tempPrefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, idx.Close()) }()
	if err := writeIndex(idx, entries, sum); err != nil {
		return err
	}
	if err := idx.Chmod(0o444); err != nil {
		return err
	}
	if err := idx.Sync(); err != nil {
		return err
	}
	name := filepath.Join(dir, "pack", "pack-"+sum.String())
	if err := os.Rename(file.Name(), name+".pack"); err != nil {
		return err
	}
	if err := os.Rename(idx.Name(), name+".idx"); err != nil {
		return err
	}
	return SyncDir(filepath.Join(dir, "pack"))
}

// SyncDir makes the names in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Clean removes what a fetch that was interrupted left behind: unfinished files, and packs that have no index yet.
func Clean(dir string) error {
	list, err := os.ReadDir(filepath.Join(dir, "pack"))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	there := map[string]bool{}
	for _, e := range list {
		there[e.Name()] = true
	}
	var errs []error
	for name := range there {
		stem, isPack := strings.CutSuffix(name, ".pack")
		if strings.HasPrefix(name, "tmp_") || isPack && !there[stem+".idx"] {
			errs = append(errs, os.Remove(filepath.Join(dir, "pack", name)))
		}
	}
	return errors.Join(errs...)
}

// Size sums up what the folder's packs take on disk.
func Size(dir string) (int64, error) {
	list, err := os.ReadDir(filepath.Join(dir, "pack"))
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			return 0, err
		}
		sum += info.Size()
	}
	return sum, nil
}

// Join makes one pack of all packs in the folder, without inflating anything: a pack's entries refer to each other by
// distance or by id, so the bodies can stand one behind the other. A pack all of whose objects are in larger ones is
// dropped. The store that is open on the folder must not be used afterwards.
func Join(ctx context.Context, dir string, s *Store) (err error) {
	sources := slices.Clone(s.packs)
	slices.SortFunc(sources, func(a, b *packFile) int { return int(b.len() - a.len()) })
	file, err := Temp(dir)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, file.Close())
		if err != nil {
			_ = os.Remove(file.Name()) // after the rename there is none; Clean finds what stays
		}
	}()
	entries, taken, err := joinable(sources)
	if err != nil {
		return err
	}
	sum, err := writeJoined(ctx, file, taken)
	if err != nil {
		return err
	}
	if err := install(dir, file, entries, sum); err != nil {
		return err
	}
	kept := filepath.Join(dir, "pack", "pack-"+sum.String())
	var errs []error
	for _, p := range sources {
		if p.name != kept { // index first: a pack without one is cleaned up
			errs = append(errs, os.Remove(p.name+".idx"), os.Remove(p.name+".pack"))
		}
	}
	return errors.Join(append(errs, SyncDir(filepath.Join(dir, "pack")))...)
}

// joinable lists the entries of the joined pack, sorted by id, with the offsets they will have, and the packs taken.
// An id that several packs have stays listed as often: Git wants an index to be as long as its pack.
func joinable(sources []*packFile) (entries []entry, taken []*packFile, err error) {
	end := int64(12)
	for _, p := range sources {
		more, err := p.all()
		if err != nil {
			return nil, nil, fmt.Errorf("%w: read %s.idx: %w", ErrDamaged, filepath.Base(p.name), err)
		}
		news := 0
		for i := range more {
			more[i].off += end - 12
			if _, ok := slices.BinarySearchFunc(entries, more[i].id, func(e entry, id ID) int { return compareIDs(e.id, id) }); !ok {
				news++
			}
		}
		if news == 0 {
			continue
		}
		taken = append(taken, p)
		end += p.reader.end - 12
		entries = append(entries, more...)
		slices.SortStableFunc(entries, func(a, b entry) int { return compareIDs(a.id, b.id) })
	}
	return entries, taken, nil
}

// writeJoined writes a header, the packs' bodies and the checksum over both.
func writeJoined(ctx context.Context, file *os.File, taken []*packFile) (ID, error) {
	var count uint32
	for _, p := range taken {
		var head [12]byte
		if _, err := p.pack.ReadAt(head[:], 0); err != nil {
			return ID{}, err
		}
		count += binary.BigEndian.Uint32(head[8:])
	}
	sum := sha1.New()
	w := io.MultiWriter(file, sum)
	head := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), count)
	if _, err := w.Write(head); err != nil {
		return ID{}, err
	}
	for _, p := range taken {
		if err := ctx.Err(); err != nil {
			return ID{}, err
		}
		if _, err := io.Copy(w, io.NewSectionReader(p.pack, 12, p.reader.end-12)); err != nil {
			return ID{}, err
		}
	}
	id := ID(sum.Sum(nil))
	_, err := file.Write(id[:])
	return id, err
}
