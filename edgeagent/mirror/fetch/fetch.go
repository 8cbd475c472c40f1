// Package fetch brings blobs into the store: each once, however many ask for it, from whoever has it. Whoever asks follows the file as
// it grows, and may leave without ending what others wait for. A fetch goes on where the last one stopped, turns to the next source when one
// fails, and believes none of them: the store hashes everything.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/blob"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// ErrClosed is the error of fetches that Close ended, or that began after it.
var ErrClosed = errors.New("the mirror is being closed")

// Want is what is asked for.
type Want struct {
	Repository string
	Digest     oci.Digest
	Size       int64 // as a manifest says; -1 if nobody did
	Manifest   bool  // it is a manifest or an index, which registries keep apart from blobs
}

// Source is where blobs come from: a registry with one credential, or a member of the pool. Sources compare with ==: two that are equal
// are the same registry asked by the same caller. A source must end by itself when it is silent for too long. Errors are of the kinds of
// package upstream.
type Source interface {
	// Name is for logs.
	Name() string
	// Proves tells whether being served by it shows that the blob belongs to the repository and that the caller may have it.
	Proves() bool
	// Open gives the bytes from an offset on. It is called by one goroutine at a time for one blob, and concurrently for many.
	Open(ctx context.Context, want Want, from int64) (*upstream.Blob, error)
}

// Config is what a Fetcher is made of.
type Config struct {
	Store *blob.Store
	Log   *slog.Logger
	// Rounds is how often all sources are asked before a fetch is given up, when they fail in a way that may pass. Default 4.
	Rounds int
	// Pause is how long to wait before the second round; each further one waits twice as long. Default 1 s.
	Pause time.Duration
}

// Fetcher fetches. Its methods may be called concurrently.
type Fetcher struct {
	cfg  Config
	ctx  context.Context // ends all fetches
	stop context.CancelCauseFunc

	mu      sync.Mutex // guards what follows
	flights map[oci.Digest]*flight
	running sync.WaitGroup
}

// New makes a Fetcher.
func New(cfg Config) *Fetcher {
	if cfg.Rounds == 0 {
		cfg.Rounds = 4
	}
	if cfg.Pause == 0 {
		cfg.Pause = time.Second
	}
	f := &Fetcher{cfg: cfg, flights: map[oci.Digest]*flight{}}
	f.ctx, f.stop = context.WithCancelCause(context.Background())
	return f
}

// Close ends all fetches and waits for them. The store keeps what has come.
func (f *Fetcher) Close() {
	f.mu.Lock()
	f.stop(ErrClosed)
	f.mu.Unlock()
	f.running.Wait()
}

// Blob is a blob that is in the store, or on its way into it.
type Blob struct {
	Size int64
	// Proved: a source that Proves it gave it to this very call. What was in the store, or was already on its way for somebody else, may
	// belong to another repository.
	Proved bool

	store  *blob.Store
	digest oci.Digest
}

// Open gives the bytes from an offset on, and waits for those that are on their way.
func (b *Blob) Open(ctx context.Context, from int64) (io.ReadCloser, error) {
	r, err := b.store.Follow(ctx, b.digest, from)
	if err != nil {
		return nil, fmt.Errorf("read blob: %w", err)
	}
	return r, nil
}

// Blob gives a blob once its size is known, and has it fetched if it is not in the store. The sources are tried in their order. If somebody
// else's fetch is under way this call follows it; should that one not be allowed the blob, this call's own sources are tried. The blob is
// not collected while ctx lasts. The error is a source's, the store's, ErrClosed or the context's.
func (f *Fetcher) Blob(ctx context.Context, want Want, sources ...Source) (*Blob, error) {
	b, _, err := f.blob(ctx, want, sources)
	return b, err
}

// blob is Blob, with the fetch that the call began or follows; nil if the blob is in the store.
func (f *Fetcher) blob(ctx context.Context, want Want, sources []Source) (*Blob, *flight, error) {
	context.AfterFunc(ctx, f.cfg.Store.Pin(want.Digest))
	for {
		if info, err := f.cfg.Store.Stat(want.Digest); err == nil {
			return f.found(want, info.Size, false), nil, nil
		} else if !errors.Is(err, blob.ErrNotFound) {
			return nil, nil, fmt.Errorf("look for blob: %w", err)
		}
		fl, mine, err := f.join(want, sources)
		if err != nil {
			return nil, nil, fmt.Errorf("fetch %s: %w", want.Digest, err)
		}
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("fetch %s: %w", want.Digest, context.Cause(ctx))
		case <-fl.ready:
		}
		if fl.failed == nil {
			return f.found(want, fl.size, mine && fl.proved), fl, nil
		}
		if mine || !personal(fl.failed) || slices.Equal(fl.sources, sources) {
			return nil, nil, fl.failed
		}
		// The others were not allowed to have it: perhaps this caller is.
	}
}

// Await is Blob for who wants the whole in the store, such as a pre-pull.
func (f *Fetcher) Await(ctx context.Context, want Want, sources ...Source) error {
	_, err := f.await(ctx, want, sources)
	return err
}

func (f *Fetcher) await(ctx context.Context, want Want, sources []Source) (*Blob, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // with it the blob is no longer kept from being collected
	b, fl, err := f.blob(ctx, want, sources)
	if err != nil || fl == nil {
		return b, err
	}
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("fetch %s: %w", want.Digest, context.Cause(ctx))
	case <-fl.done:
		return b, fl.err
	}
}

func (f *Fetcher) found(want Want, size int64, proved bool) *Blob {
	return &Blob{Size: size, Proved: proved, store: f.cfg.Store, digest: want.Digest}
}

// personal tells whether an error is about who asked and where, so that another caller may fare better.
func personal(err error) bool {
	return errors.Is(err, upstream.Unauthorized) || errors.Is(err, upstream.Denied) || errors.Is(err, upstream.NotFound) || errors.Is(err, upstream.RateLimited)
}

// join gives the fetch of a blob that is under way, or begins one. mine: this call began it.
func (f *Fetcher) join(want Want, sources []Source) (fl *flight, mine bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return nil, false, ErrClosed
	}
	if fl = f.flights[want.Digest]; fl != nil {
		return fl, false, nil
	}
	fl = newFlight(f, want, sources)
	f.flights[want.Digest] = fl
	f.running.Go(func() {
		err := fl.fly(f.ctx)
		f.mu.Lock()
		delete(f.flights, want.Digest)
		f.mu.Unlock()
		fl.land(err)
	})
	return fl, true, nil
}

// Progress is a fetch under way.
type Progress struct {
	Want   Want
	Source string // "" before one was asked
	Here   int64  // bytes that are in the store
	Size   int64  // -1 before it is known
}

// Progress tells what is being fetched, for people and for metrics.
func (f *Fetcher) Progress() []Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Progress, 0, len(f.flights))
	for _, fl := range f.flights {
		out = append(out, fl.progress())
	}
	return out
}
