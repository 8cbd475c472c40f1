package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// Reader reads one blob, and keeps it from being collected until it is closed. It is used by one goroutine at a time.
//
// Of a blob that is still being written it returns what is there, waits for more, and ends with the writer's error if that gives up.
// Where the size was known the last bytes come only once the whole is what its digest says: who follows never gets a wrong blob whole.
type Reader struct {
	ctx     context.Context
	digest  oci.Digest
	f       *os.File
	offset  int64
	size    int64   // of a blob that is whole
	growth  *growth // of one that is being written, else nil
	release func()
}

// Open reads a blob that is whole, from its beginning. ErrNotFound if it is not there.
func (s *Store) Open(d oci.Digest) (*Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open(d)
}

// open is Open. s.mu is held.
func (s *Store) open(d oci.Digest) (*Reader, error) {
	if d.IsZero() {
		return nil, notFound(d, fs.ErrNotExist)
	}
	f, err := os.Open(s.path(d))
	if err != nil {
		return nil, notFound(d, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", d, err)
	}
	s.touch(d)
	return &Reader{ctx: context.Background(), digest: d, f: f, size: info.Size(), release: s.hold(d)}, nil
}

// Follow reads a blob from an offset on, whether it is whole or just being written. ErrNotFound if it is neither. The context bounds
// the waiting for bytes.
func (s *Store) Follow(ctx context.Context, d oci.Digest, from int64) (*Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from < 0 {
		return nil, fmt.Errorf("read %s: from %d", d, from)
	}
	w := s.writers[d]
	if w == nil || !w.begun {
		r, err := s.open(d)
		if err == nil {
			r.offset = from
		}
		return r, err
	}
	f, err := os.Open(s.partialPath(d))
	if errors.Is(err, fs.ErrNotExist) { // it has just been committed
		f, err = os.Open(s.path(d))
	}
	if err != nil {
		return nil, notFound(d, err)
	}
	return &Reader{ctx: ctx, digest: d, f: f, offset: from, growth: &w.growth, release: s.hold(d)}, nil
}

// hold pins one blob. s.mu is held.
func (s *Store) hold(d oci.Digest) func() {
	s.pins[d]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.pins[d]--; s.pins[d] <= 0 {
			delete(s.pins, d)
		}
	}
}

// Size is the size of the whole blob; of one that is being written it waits until that is known.
func (r *Reader) Size() (int64, error) {
	if r.growth == nil {
		return r.size, nil
	}
	size, err := r.growth.waitSize(r.ctx)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", r.digest, err)
	}
	return size, nil
}

// Read reads on, and waits for bytes that have not come yet.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	available := r.size
	if r.growth != nil {
		var err error
		if available, err = r.growth.wait(r.ctx, r.offset); err == io.EOF {
			return 0, io.EOF
		} else if err != nil {
			return 0, fmt.Errorf("read %s: %w", r.digest, err)
		}
	}
	if r.offset >= available {
		return 0, io.EOF
	}
	n, err := r.f.ReadAt(p[:min(int64(len(p)), available-r.offset)], r.offset)
	r.offset += int64(n)
	switch {
	case n > 0:
		return n, nil // what is wrong is still wrong at the next call
	case err == io.EOF:
		return 0, fmt.Errorf("read %s: its file ends at %d of %d bytes: %w", r.digest, r.offset, available, io.ErrUnexpectedEOF)
	}
	return n, err
}

// Seek makes a Reader fit for http.ServeContent. From the end it waits until the size is known.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		size, err := r.Size()
		if err != nil {
			return 0, err
		}
		offset += size
	}
	if offset < 0 {
		return 0, fmt.Errorf("read %s: seek to %d", r.digest, offset)
	}
	r.offset = offset
	return offset, nil
}

// Close lets the blob go. It may be called twice.
func (r *Reader) Close() error {
	if r.release == nil {
		return nil
	}
	r.release()
	r.release = nil
	return r.f.Close()
}

// Bytes reads a small blob whole, such as a manifest, and checks it: what steers the mirror is never believed unread. A CorruptError
// says that it was damaged and is in quarantine now. One larger than most is refused with oci.ErrTooLarge.
func (s *Store) Bytes(d oci.Digest, most int64) ([]byte, error) {
	r, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.size > most {
		return nil, fmt.Errorf("read %s: %d bytes: %w: %d", d, r.size, oci.ErrTooLarge, most)
	}
	var data bytes.Buffer
	data.Grow(int(r.size) + bytes.MinRead)
	if _, err := data.ReadFrom(r); err != nil {
		return nil, s.condemn(r.f, d, oci.Digest{}, err)
	}
	if got := d.Algorithm().FromBytes(data.Bytes()); got != d {
		return nil, s.condemn(r.f, d, got, nil)
	}
	return data.Bytes(), nil
}
