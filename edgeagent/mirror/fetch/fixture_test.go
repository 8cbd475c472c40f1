package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/blob"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// stuff makes bytes that compress to nothing else.
func stuff(n int) []byte {
	out := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n)})
	r.Read(out)
	return out
}

func wantOf(data []byte) Want {
	return Want{Repository: "team/app", Digest: oci.SHA256.FromBytes(data), Size: int64(len(data))}
}

func openStore(t testing.TB, dir string, budget blob.Budget) *blob.Store {
	t.Helper()
	s, err := blob.Open(dir, blob.Options{Budget: budget})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// fetcher makes a Fetcher with pauses that a test can wait for.
func fetcher(t testing.TB, s *blob.Store) *Fetcher {
	t.Helper()
	f := New(Config{Store: s, Log: slog.New(slog.DiscardHandler), Pause: 10 * time.Millisecond})
	t.Cleanup(f.Close)
	return f
}

func newFetcher(t testing.TB) *Fetcher {
	t.Helper()
	return fetcher(t, openStore(t, t.TempDir(), blob.Budget{}))
}

// scripted is a source that does as it is told: answer gives what comes for its nth request, from 0.
type scripted struct {
	name   string
	peer   bool // proves nothing
	answer func(n int, want Want, from int64) (*upstream.Blob, error)

	mu    sync.Mutex // guards opens
	opens []int64
}

func (s *scripted) Name() string { return s.name }
func (s *scripted) Proves() bool { return !s.peer }

func (s *scripted) Open(_ context.Context, want Want, from int64) (*upstream.Blob, error) {
	s.mu.Lock()
	n := len(s.opens)
	s.opens = append(s.opens, from)
	s.mu.Unlock()
	return s.answer(n, want, from)
}

// asked gives the offsets that were asked for.
func (s *scripted) asked() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]int64(nil), s.opens...)
}

func kind(k upstream.Kind) error {
	return &upstream.Error{Kind: k, Registry: "test", Doing: "fetch", Err: errors.New("by script")}
}

func fails(k upstream.Kind) *scripted {
	return &scripted{name: string(k), answer: func(int, Want, int64) (*upstream.Blob, error) { return nil, kind(k) }}
}

// gives has all of data.
func gives(data []byte) *scripted {
	return &scripted{name: "good", answer: func(_ int, _ Want, from int64) (*upstream.Blob, error) {
		return body(len(data), bytes.NewReader(data[from:])), nil
	}}
}

func body(size int, readers ...io.Reader) *upstream.Blob {
	return &upstream.Blob{Size: int64(size), Body: io.NopCloser(io.MultiReader(readers...))}
}

// broken is a reader that fails.
type broken upstream.Kind

func (b broken) Read([]byte) (int, error) { return 0, kind(upstream.Kind(b)) }

// gate is a reader that gives nothing, and waits until it is opened.
type gate chan struct{}

func (g gate) Read([]byte) (int, error) {
	<-g
	return 0, io.EOF
}

// read gets a blob whole, as a client does.
func read(ctx context.Context, f *Fetcher, want Want, sources ...Source) ([]byte, error) {
	b, err := f.Blob(ctx, want, sources...)
	if err != nil {
		return nil, err
	}
	r, err := b.Open(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err == nil && b.Size != int64(len(data)) {
		err = fmt.Errorf("its size is %d, and %d bytes came", b.Size, len(data))
	}
	return data, err
}

// mustRead checks that a blob comes whole.
func mustRead(t *testing.T, f *Fetcher, data []byte, sources ...Source) {
	t.Helper()
	got, err := read(t.Context(), f, wantOf(data), sources...)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d of %d bytes, %v", len(got), len(data), err)
	}
}

func wantKind(t *testing.T, err error, want upstream.Kind) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want one of kind %q", err, want)
	}
}

// eventually polls until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func TestMain(m *testing.M) {
	if maybeChild() {
		return
	}
	goleak.VerifyTestMain(m)
}
