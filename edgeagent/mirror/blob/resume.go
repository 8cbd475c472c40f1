package blob

import (
	"errors"
	"io"
	"os"
)

// resume opens the partial and finds out how much of it can be believed.
func (w *Writer) resume() error {
	w.hash = w.digest.Algorithm().New()
	path := w.s.partialPath(w.digest)
	f, err := w.s.disk.openPartial(path)
	if err != nil {
		return err
	}
	w.f = f
	info, err := f.Stat()
	if err != nil {
		return err
	}
	there := info.Size()
	believed, err := w.believe(there)
	if err != nil {
		return err
	}
	if believed < there {
		if err := w.s.disk.truncate(f, believed); err != nil {
			return err
		}
		w.s.count(believed - there)
	}
	if w.offset < w.size || w.size < 0 {
		w.growth.grow(w.offset)
		w.growth.expect(w.size)
		return nil
	}
	return w.resumeWhole()
}

// believe reads the journal and brings the hash to the end of what is believed of the file's bytes.
func (w *Writer) believe(there int64) (int64, error) {
	j, err := readJournal(w.s.partialPath(w.digest)+journalSuffix, w.digest)
	if err != nil {
		return 0, nil // without one nothing is known
	}
	sameBoot := j.Boot == w.s.boot && j.Boot != ""
	believed, hashed := there, j.Offset
	if !sameBoot {
		believed = min(there, j.Offset)
	}
	if hashed > there || hashed > 0 && restore(w.hash, j.State) != nil {
		hashed = 0 // the state does not fit the file: what is there is read again
		w.hash.Reset()
	}
	w.size, w.journaled, w.durable = j.Size, true, min(j.Offset, there)
	w.cut = j.Cut || !sameBoot && hashed > 0
	if w.size >= 0 {
		believed = min(believed, w.size)
	}
	if _, err := io.Copy(w.hash, io.NewSectionReader(w.f, hashed, believed-hashed)); err != nil {
		return 0, err
	}
	w.offset = believed
	return believed, nil
}

// resumeWhole checks a partial that has all its bytes before any reader sees the last of them. One that is wrong is set aside, and the
// writer begins anew.
func (w *Writer) resumeWhole() error {
	err := w.verify()
	var mismatch *MismatchError
	if !errors.As(err, &mismatch) || fileSize(w.s.partialPath(w.digest)) > 0 {
		w.growth.grow(w.offset)
		w.growth.expect(w.size)
		return err
	}
	w.s.log.Warn("an unfinished blob is not what was written; fetching it from the beginning", "digest", w.digest, "error", err)
	w.growth = growth{size: -1}
	w.ended, w.size, w.offset, w.durable, w.tried, w.journaled, w.cut = nil, -1, 0, 0, 0, false, false
	if err := w.s.enter(w); err != nil {
		return err
	}
	return w.resume()
}

// discardFiles removes what there is of a blob that is not whole.
func (w *Writer) discardFiles() error {
	path := w.s.partialPath(w.digest)
	err := w.s.disk.remove(path)
	if err == nil {
		w.s.count(-w.offset)
	}
	return errors.Join(err, w.s.disk.remove(path+journalSuffix))
}

// count changes how much the store takes of the disk.
func (s *Store) count(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used += n
}

// fileSize is 0 for a file that is not there.
func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
