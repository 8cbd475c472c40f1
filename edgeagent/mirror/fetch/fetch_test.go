package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/blob"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// TestReadersFollow: who asks while a blob is on its way gets what is here at once, and the rest as it comes.
func TestReadersFollow(t *testing.T) {
	f, data, more := newFetcher(t), stuff(1<<20), make(gate)
	half := len(data) / 2
	source := &scripted{name: "slow", answer: func(int, Want, int64) (*upstream.Blob, error) {
		return body(len(data), bytes.NewReader(data[:half]), more, bytes.NewReader(data[half:])), nil
	}}
	var readers []io.ReadCloser
	for i := range 20 {
		b, err := f.Blob(t.Context(), wantOf(data), source)
		if err != nil {
			t.Fatal(err)
		}
		if b.Proved != (i == 0) || b.Size != int64(len(data)) {
			t.Errorf("caller %d: %+v; only the one who began the fetch was served by the registry", i, b)
		}
		r, err := b.Open(t.Context(), int64(i))
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
		got := make([]byte, half-i)
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, data[i:half]) {
			t.Errorf("caller %d: the first half: %v", i, err)
		}
	}
	if p := f.Progress(); len(p) != 1 || p[0].Source != "slow" || p[0].Here != int64(half) || p[0].Size != int64(len(data)) || p[0].Want.Repository != "team/app" {
		t.Errorf("the progress is %+v", p)
	}
	close(more)
	for i, r := range readers {
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[half:]) {
			t.Errorf("caller %d: the second half: %d bytes, %v", i, len(got), err)
		}
		r.Close()
	}
	if n := len(source.asked()); n != 1 {
		t.Errorf("the source was asked %d times, want once", n)
	}
	eventually(t, "no fetch is under way", func() bool { return len(f.Progress()) == 0 })
	b, err := f.Blob(t.Context(), wantOf(data))
	if err != nil || b.Proved {
		t.Errorf("from the store: %+v, %v", b, err)
	}
}

// TestClientLeaves: it does not stop the fetch.
func TestClientLeaves(t *testing.T) {
	f, data, more := newFetcher(t), stuff(1<<20), make(gate)
	source := &scripted{name: "slow", answer: func(int, Want, int64) (*upstream.Blob, error) {
		return body(len(data), more, bytes.NewReader(data)), nil
	}}
	ctx, cancel := context.WithCancel(t.Context())
	b, err := f.Blob(ctx, wantOf(data), source)
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.Open(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("the client's read ended with %v", err)
	}
	if err := f.Await(ctx, wantOf(data), source); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(more)
	if err := f.Await(t.Context(), wantOf(data)); err != nil {
		t.Error(err)
	}
	mustRead(t, f, data)
}

// TestLeavesBeforeTheAnswer: also before a source has said anything.
func TestLeavesBeforeTheAnswer(t *testing.T) {
	f, data, more := newFetcher(t), stuff(1000), make(gate)
	source := &scripted{name: "slow", answer: func(int, Want, int64) (*upstream.Blob, error) {
		<-more
		return body(len(data), bytes.NewReader(data)), nil
	}}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the pod is gone")
	cancel(why)
	if _, err := f.Blob(ctx, wantOf(data), source); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	close(more)
	if err := f.Await(t.Context(), wantOf(data), source); err != nil {
		t.Error(err)
	}
	if n := len(source.asked()); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestFailover(t *testing.T) {
	data := stuff(1 << 20)
	half := len(data) / 2
	for _, test := range []struct {
		name   string
		first  *scripted
		asked  int   // how often the first is
		second int64 // from where the second is asked; -1 if it is not
	}{
		{"cannot be connected", fails(upstream.Unavailable), 1, 0},
		{"does not have it", fails(upstream.NotFound), 1, 0},
		{"does not allow it", fails(upstream.Denied), 1, 0},
		{"is broken", fails(upstream.Broken), 1, 0},
		{"is asked too often", fails(upstream.RateLimited), 1, 0},
		{"says something else", fails(upstream.ErrorPage), 1, 0},
		{"an error of no kind", &scripted{name: "odd", answer: func(int, Want, int64) (*upstream.Blob, error) { return nil, errors.New("odd") }}, 1, 0},
		{"stalls in the middle", &scripted{name: "stalls", answer: func(int, Want, int64) (*upstream.Blob, error) {
			return body(len(data), bytes.NewReader(data[:half]), broken(upstream.Stalled)), nil
		}}, 1, int64(half)},
		{"drops and is gone", &scripted{name: "drops", answer: func(n int, _ Want, _ int64) (*upstream.Blob, error) {
			if n > 0 {
				return nil, kind(upstream.Unavailable)
			}
			return body(len(data), bytes.NewReader(data[:half]), broken(upstream.Dropped)), nil
		}}, 2, int64(half)},
		{"drops again and again, and gets on", &scripted{name: "drops", answer: func(_ int, _ Want, from int64) (*upstream.Blob, error) {
			end := min(int(from)+100<<10, len(data))
			return body(len(data), bytes.NewReader(data[from:end]), broken(upstream.Dropped)), nil
		}}, 11, -1},
		{"drops again and again after a byte", &scripted{name: "drops", answer: func(_ int, _ Want, from int64) (*upstream.Blob, error) {
			return body(len(data), bytes.NewReader(data[from:from+1]), broken(upstream.Dropped)), nil
		}}, 1, 1},
		{"ends early and calls it the end", &scripted{name: "short", answer: func(_ int, _ Want, from int64) (*upstream.Blob, error) {
			return body(len(data), bytes.NewReader(data[from:min(int(from)+10, half)])), nil
		}}, 1, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, second := newFetcher(t), gives(data)
			mustRead(t, f, data, test.first, second)
			if n := len(test.first.asked()); n != test.asked {
				t.Errorf("the first source was asked %d times, want %d", n, test.asked)
			}
			if asked := second.asked(); test.second >= 0 && !slices.Equal(asked, []int64{test.second}) || test.second < 0 && asked != nil {
				t.Errorf("the second source was asked from %v, want from %d", asked, test.second)
			}
		})
	}
}

// TestMiss: what nobody can give now is told at once, with the last source's reason.
func TestMiss(t *testing.T) {
	data := stuff(1000)
	for _, test := range []struct {
		kind upstream.Kind
		most int // attempts
	}{
		{upstream.Unavailable, 1}, {upstream.NotFound, 1}, {upstream.Unauthorized, 1}, {upstream.Denied, 1}, {upstream.Refused, 1},
		{upstream.Stalled, 1}, {upstream.ErrorPage, 1}, {upstream.Unexpected, 1}, {upstream.Broken, 2}, {upstream.Dropped, 2}, {upstream.RateLimited, 2},
	} {
		f, peer, last := newFetcher(t), fails(upstream.NotFound), fails(test.kind)
		_, err := f.Blob(t.Context(), wantOf(data), peer, last)
		wantKind(t, err, test.kind)
		if n := len(last.asked()); n != test.most {
			t.Errorf("%s: asked %d times, want %d", test.kind, n, test.most)
		}
		// It is not remembered.
		mustRead(t, f, data, gives(data))
	}
	_, err := newFetcher(t).Blob(t.Context(), wantOf(data))
	wantKind(t, err, upstream.Unavailable)
	// One that wants to be left alone for long is.
	limited := &scripted{name: "limited", answer: func(int, Want, int64) (*upstream.Blob, error) {
		return nil, &upstream.Error{Kind: upstream.RateLimited, RetryAfter: time.Minute, Err: errors.New("by script")}
	}}
	_, err = newFetcher(t).Blob(t.Context(), wantOf(data), limited)
	if e, ok := errors.AsType[*upstream.Error](err); !ok || e.RetryAfter != time.Minute || len(limited.asked()) != 1 {
		t.Errorf("got %v after %d attempts", err, len(limited.asked()))
	}
}

// TestNetworkComesBack: what is on its way survives a network that is gone for a moment, and its readers notice nothing.
func TestNetworkComesBack(t *testing.T) {
	data := stuff(1 << 20)
	flaky := &scripted{name: "flaky", answer: func(n int, _ Want, from int64) (*upstream.Blob, error) {
		switch n {
		case 0:
			return body(len(data), bytes.NewReader(data[:len(data)/2]), broken(upstream.Stalled)), nil
		case 1, 2:
			return nil, kind(upstream.Unavailable)
		}
		return body(len(data), bytes.NewReader(data[from:])), nil
	}}
	mustRead(t, newFetcher(t), data, flaky)
	if asked := flaky.asked(); len(asked) != 4 || asked[3] != int64(len(data)/2) {
		t.Errorf("asked from %v", asked)
	}
	// It is not waited for without end, and what has come stays for the next.
	f := newFetcher(t)
	gone := &scripted{name: "gone", answer: func(n int, _ Want, from int64) (*upstream.Blob, error) {
		if n > 0 {
			return nil, kind(upstream.Unavailable)
		}
		return body(len(data), bytes.NewReader(data[:len(data)/2]), broken(upstream.Stalled)), nil
	}}
	_, err := read(t.Context(), f, wantOf(data), gone)
	wantKind(t, err, upstream.Unavailable)
	if n := len(gone.asked()); n != 4 {
		t.Errorf("asked %d times, want 4", n)
	}
	good := gives(data)
	mustRead(t, f, data, good)
	if asked := good.asked(); !slices.Equal(asked, []int64{int64(len(data) / 2)}) {
		t.Errorf("asked from %v: what had come was fetched again", asked)
	}
}

// TestUnknownSize: nobody says how large it is until it is here.
func TestUnknownSize(t *testing.T) {
	f, data := newFetcher(t), stuff(300_000)
	want := wantOf(data)
	want.Size = -1
	source := &scripted{name: "silent", answer: func(_ int, _ Want, from int64) (*upstream.Blob, error) {
		return body(-1, bytes.NewReader(data[from:])), nil
	}}
	b, err := f.Blob(t.Context(), want, source)
	if err != nil || b.Size != int64(len(data)) || !b.Proved {
		t.Errorf("got %+v, %v", b, err)
	}
	mustRead(t, f, data)
}

func TestRoom(t *testing.T) {
	data := stuff(1 << 20)
	f := fetcher(t, openStore(t, t.TempDir(), blob.Budget{Quota: 1000}))
	source := gives(data)
	_, err := f.Blob(t.Context(), wantOf(data), source)
	if !errors.Is(err, blob.ErrNeverFits) || len(source.asked()) != 0 {
		t.Errorf("got %v after %d requests, want ErrNeverFits before anybody is asked", err, len(source.asked()))
	}
	unknown := wantOf(data)
	unknown.Size = -1
	if _, err := f.Blob(t.Context(), unknown, source, gives(data)); !errors.Is(err, blob.ErrNeverFits) || len(source.asked()) != 1 {
		t.Errorf("got %v after %d requests", err, len(source.asked()))
	}
}

// TestPersonal: what the first caller may not have another may, who came while the first was being refused.
func TestPersonal(t *testing.T) {
	f, data, more := newFetcher(t), stuff(1000), make(gate)
	refused := &scripted{name: "refused", answer: func(int, Want, int64) (*upstream.Blob, error) {
		<-more
		return nil, kind(upstream.Denied)
	}}
	good := gives(data)
	first, second, third := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	ask := func(out chan error, s Source) {
		_, err := read(t.Context(), f, wantOf(data), s)
		out <- err
	}
	go ask(first, refused)
	eventually(t, "the first is asked", func() bool { return len(refused.asked()) == 1 })
	joined := make(chan struct{})
	go func() { close(joined); ask(second, good) }()
	go ask(third, refused)
	<-joined
	close(more)
	wantKind(t, <-first, upstream.Denied)
	if err := <-second; err != nil {
		t.Errorf("the second: %v", err)
	}
	// The third is as the first: it was refused with it, unless it came so late that the blob was there.
	if err := <-third; err != nil && !errors.Is(err, upstream.Denied) {
		t.Errorf("the third: %v", err)
	}
}

func TestClose(t *testing.T) {
	dir, data := t.TempDir(), stuff(2<<20)
	store := openStore(t, dir, blob.Budget{})
	f := fetcher(t, store)
	started := make(chan struct{})
	ctxs := make(chan context.Context, 1)
	source := &stopping{data: data, started: started, ctx: ctxs}
	b, err := f.Blob(t.Context(), wantOf(data), source)
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, len(data)/2)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := io.ReadAll(r); !errors.Is(err, ErrClosed) {
		t.Errorf("the reader ended with %v, want ErrClosed", err)
	}
	if _, err := f.Blob(t.Context(), wantOf(data), source); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	good := gives(data)
	mustRead(t, fetcher(t, openStore(t, dir, blob.Budget{})), data, good)
	if asked := good.asked(); !slices.Equal(asked, []int64{int64(len(data) / 2)}) {
		t.Errorf("after the restart asked from %v, want from the middle", asked)
	}
}

// stopping gives half, and then waits for the end of its context.
type stopping struct {
	data    []byte
	started chan struct{}
	ctx     chan context.Context
}

func (s *stopping) Name() string { return "stopping" }
func (s *stopping) Proves() bool { return true }

func (s *stopping) Open(ctx context.Context, _ Want, _ int64) (*upstream.Blob, error) {
	return body(len(s.data), bytes.NewReader(s.data[:len(s.data)/2]), until{ctx}), nil
}

type until struct{ ctx context.Context }

func (u until) Read([]byte) (int, error) {
	<-u.ctx.Done()
	return 0, u.ctx.Err()
}

// TestSomebodyElseWrites: as the import of a bundle does.
func TestSomebodyElseWrites(t *testing.T) {
	data := stuff(1 << 20)
	for _, finishes := range []bool{true, false} {
		t.Run(fmt.Sprint("finishes=", finishes), func(t *testing.T) {
			store := openStore(t, t.TempDir(), blob.Budget{})
			f, source := fetcher(t, store), gives(data)
			w, err := store.Writer(wantOf(data).Digest)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(data[:len(data)/2]); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- f.Await(t.Context(), wantOf(data), source) }()
			eventually(t, "the fetch begins", func() bool { return len(f.Progress()) == 1 })
			if finishes {
				if _, err = w.Write(data[len(data)/2:]); err == nil {
					err = w.Commit()
				}
			} else {
				err = w.Abandon(errors.New("the stick was pulled out"))
			}
			if e := <-done; err != nil || e != nil {
				t.Fatal(err, e)
			}
			mustRead(t, f, data)
			if asked := source.asked(); finishes && asked != nil || !finishes && !slices.Equal(asked, []int64{int64(len(data) / 2)}) {
				t.Errorf("asked from %v", asked)
			}
		})
	}
}

// TestManyBlobsAtOnce is for the race detector.
func TestManyBlobsAtOnce(t *testing.T) {
	f := newFetcher(t)
	var wg sync.WaitGroup
	for i := range 20 {
		data := stuff(10_000 + i/2)
		for range 3 {
			wg.Go(func() {
				flaky := &scripted{name: "flaky", answer: func(n int, _ Want, from int64) (*upstream.Blob, error) {
					return body(len(data), bytes.NewReader(data[from:(int(from)+len(data))/2]), broken(upstream.Dropped)), nil
				}}
				got, err := read(t.Context(), f, wantOf(data), flaky, gives(data))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
	}
	wg.Wait()
}
