package blob

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// TestEverybodyAtOnce: downloads that end well, badly or not at all, readers, checks and collections, all at once on few blobs. Nobody
// ever reads a wrong blob to its end, and the store counts right at the end.
func TestEverybodyAtOnce(t *testing.T) {
	const blobs, workers, rounds, size = 10, 6, 60, 6000
	_, root := content(0, size)
	s := openSmall(t, t.TempDir(), Options{Budget: Budget{Quota: blobs * size * 2 / 3}, Roots: rootsOf(root)})
	var group sync.WaitGroup
	for worker := range workers {
		random := rand.New(rand.NewPCG(uint64(worker), 1))
		group.Go(func() {
			for range rounds {
				data, d := content(byte(random.IntN(blobs)), size)
				var err error
				switch random.IntN(6) {
				case 0, 1, 2:
					var w *Writer
					if w, err = s.Writer(d); err == nil {
						err = someOf(t, w, data, random)
					}
				case 3, 4:
					var r *Reader
					if r, err = s.Follow(t.Context(), d, int64(random.IntN(size))); err == nil {
						from := r.offset
						got, readErr := io.ReadAll(r)
						if readErr == nil && !bytes.Equal(data[from:], got) || readErr != nil && len(got) >= len(data[from:]) {
							t.Errorf("read %d bytes from %d that are wrong: %v", len(got), from, readErr)
						}
						err = r.Close()
					}
				case 5:
					err = s.Verify(t.Context(), d)
				}
				for _, expected := range []error{ErrBusy, ErrExists, ErrNotFound, ErrNoRoom, errGaveUp} {
					if errors.Is(err, expected) {
						err = nil
					}
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	wantUsage(t, s)
	if u := s.Usage(); u.Reserved != 0 || len(s.pins) != 0 || len(s.writers) != 0 {
		t.Errorf("left: %+v, %d pins, %d writers", u, len(s.pins), len(s.writers))
	}
}

var errGaveUp = errors.New("gave up")

// someOf writes a blob, or half of it, or wrong.
func someOf(t *testing.T, w *Writer, data []byte, random *rand.Rand) error {
	if err := w.Expect(t.Context(), int64(len(data))); err != nil {
		return errors.Join(err, w.Abandon(err))
	}
	end := random.IntN(10)
	for p := range slices.Chunk(data[w.Offset():], 500) {
		if end == 0 { // wrong bytes come to light with the last of them
			p = bytes.Repeat([]byte{7}, len(p))
		}
		if end < 3 && end > 0 && w.Offset() > 3000 {
			return errors.Join(errGaveUp, w.Abandon(errGaveUp))
		}
		if _, err := w.Write(p); err != nil {
			var mismatch *MismatchError
			if !errors.As(err, &mismatch) {
				t.Error(err)
			}
			return errors.Join(errGaveUp, w.Abandon(err))
		}
	}
	if err := w.Commit(); err != nil {
		t.Error(err)
		return w.Abandon(err)
	}
	return nil
}
