package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// TestFollow: many readers, from many offsets, of a blob that grows, also past its commit.
func TestFollow(t *testing.T) {
	data, d := content(1, 200_000)
	s := openSmall(t, t.TempDir(), Options{})
	w := writer(t, s, d, -1)
	write(t, w, data[:1000])
	var readers sync.WaitGroup
	for i := range 20 {
		from := int64(i * 9973)
		r, err := s.Follow(t.Context(), d, from)
		must(t, err)
		readers.Go(func() {
			defer r.Close()
			if size, err := r.Size(); err != nil || size != int64(len(data)) {
				t.Errorf("size %d, %v", size, err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[from:]) {
				t.Errorf("from %d: %d bytes, %v", from, len(got), err)
			}
		})
	}
	must(t, w.Expect(t.Context(), int64(len(data))))
	for p := range slices.Chunk(data[1000:], 777) {
		write(t, w, p)
	}
	must(t, w.Commit())
	readers.Wait()
	r, err := s.Follow(t.Context(), d, 199_990) // whole by now
	must(t, err)
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[199_990:]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestFollowGivesUp: readers get all there is, then the writer's own error.
func TestFollowGivesUp(t *testing.T) {
	data, d := content(1, 10_000)
	gone := errors.New("the upstream is gone")
	for name, end := range map[string]func(*Writer) error{
		"abandon": func(w *Writer) error { return w.Abandon(gone) },
		"discard": func(w *Writer) error { return w.Discard(gone) },
	} {
		s := openSmall(t, t.TempDir(), Options{})
		w := writer(t, s, d, len(data))
		r, err := s.Follow(t.Context(), d, 0)
		must(t, err)
		write(t, w, data[:5000])
		must(t, end(w))
		got, err := io.ReadAll(r)
		if !errors.Is(err, gone) || name == "abandon" && len(got) != 5000 {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		must(t, r.Close())
		must(t, r.Close())
		if _, err := s.Follow(t.Context(), d, 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: nobody writes it: got %v", name, err)
		}
		if len(s.pins) != 0 {
			t.Errorf("%s: pins are left: %v", name, s.pins)
		}
	}
}

// TestLastBytesAreHeldBack: who follows a blob that turns out wrong never gets all of it.
func TestLastBytesAreHeldBack(t *testing.T) {
	data, d := content(1, 10_000)
	data[1] ^= 1
	s := openSmall(t, t.TempDir(), Options{})
	w := writer(t, s, d, len(data))
	r, err := s.Follow(t.Context(), d, 0)
	must(t, err)
	defer r.Close()
	for p := range slices.Chunk(data[:9999], 600) {
		write(t, w, p)
	}
	var mismatch *MismatchError
	if _, err := w.Write(data[9999:]); !errors.As(err, &mismatch) {
		t.Fatalf("got %v", err)
	}
	got, err := io.ReadAll(r)
	if !errors.As(err, &mismatch) || len(got) >= len(data) {
		t.Errorf("a reader got %d of %d wrong bytes, %v", len(got), len(data), err)
	}
}

// TestFollowWaits: a reader with nothing to read waits, and its context ends that.
func TestFollowWaits(t *testing.T) {
	data, d := content(1, 5000)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := open(dir, Options{}, small(dir))
		must(t, err)
		w := writer(t, s, d, -1)
		ctx, cancel := context.WithCancelCause(t.Context())
		r, err := s.Follow(ctx, d, 0)
		must(t, err)
		result, size := make(chan error, 1), make(chan error, 1)
		one := make([]byte, 1)
		go func() {
			_, err := r.Read(one)
			result <- err
		}()
		synctest.Wait()
		select {
		case err := <-result:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		write(t, w, data[:1])
		if err := <-result; err != nil || one[0] != data[0] {
			t.Fatalf("got %v", err)
		}
		go func() {
			_, err := r.Read(one)
			result <- err
		}()
		other, err := s.Follow(ctx, d, 0)
		must(t, err)
		go func() {
			_, err := other.Size()
			size <- err
		}()
		synctest.Wait()
		left := errors.New("the client left")
		cancel(left)
		if err := <-result; !errors.Is(err, left) {
			t.Errorf("read: got %v", err)
		}
		if err := <-size; !errors.Is(err, left) {
			t.Errorf("size: got %v", err)
		}
		must(t, errors.Join(r.Close(), other.Close()))
		write(t, w, data[1:]) // the client that left stopped nothing
		must(t, w.Commit())
		wantBlob(t, s, d, data)
		must(t, s.Close())
	})
}

// TestServeContent: a Reader does what net/http needs for ranges.
func TestServeContent(t *testing.T) {
	data, d := content(1, 50_000)
	s := openSmall(t, t.TempDir(), Options{})
	must(t, s.Put(d, data))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
		r, err := s.Open(d)
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		rw.Header().Set("Etag", `"`+d.String()+`"`)
		http.ServeContent(rw, q, "", s.flushed, r)
	}))
	defer server.Close()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	must(t, err)
	q.Header.Set("Range", "bytes=40000-40999")
	response, err := server.Client().Do(q)
	must(t, err)
	got, err := io.ReadAll(response.Body)
	must(t, errors.Join(err, response.Body.Close()))
	if response.StatusCode != http.StatusPartialContent || !bytes.Equal(got, data[40_000:41_000]) {
		t.Errorf("%s, %d bytes", response.Status, len(got))
	}
	server.Client().CloseIdleConnections()
}

func TestReader(t *testing.T) {
	data, d := content(1, 5000)
	s := openSmall(t, t.TempDir(), Options{})
	must(t, s.Put(d, data))
	r, err := s.Open(d)
	must(t, err)
	if err := iotest.TestReader(r, data); err != nil {
		t.Error(err)
	}
	must(t, r.Close())
	if _, err := s.Follow(t.Context(), d, -1); err == nil {
		t.Error("read from before the beginning")
	}
	far, err := s.Follow(t.Context(), d, 6000)
	must(t, err)
	defer far.Close()
	if n, err := far.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("past the end: %d, %v", n, err)
	}
	if _, err := s.Bytes(d, 4999); !errors.Is(err, oci.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
}
