package fetch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/blob"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// mostAnew is how often one fetch begins a blob from its beginning because what had come was wrong.
const mostAnew = 3

// flight is the one fetch of a blob.
type flight struct {
	f       *Fetcher
	want    Want
	sources []Source

	ready chan struct{} // closed when a source gives it and the size is known, or when it is over
	done  chan struct{} // closed when it is over
	// Set before ready is closed.
	size   int64
	proved bool
	failed error // why it was over before a source gave anything
	// Set before done is closed.
	err error

	// What follows is the flight's own goroutine's.
	w       *blob.Writer
	resumed bool         // the writer began with bytes of an earlier fetch
	gave    map[int]bool // sources whose bytes the writer has
	bad     map[int]bool // sources that gave something else
	anew    int

	mu   sync.Mutex // guards what follows
	now  Progress
	open bool // ready is closed
}

func newFlight(f *Fetcher, want Want, sources []Source) *flight {
	return &flight{f: f, want: want, sources: slices.Clone(sources), ready: make(chan struct{}), done: make(chan struct{}),
		bad: map[int]bool{}, now: Progress{Want: want, Size: want.Size}}
}

func (fl *flight) progress() Progress {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.now
}

// giving tells those who wait that the blob comes.
func (fl *flight) giving(size int64, proved bool) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.now.Size = size
	if !fl.open && size >= 0 {
		fl.open, fl.size, fl.proved = true, size, proved
		close(fl.ready)
	}
}

// begun tells whether somebody may be following.
func (fl *flight) begun() bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.open
}

// note keeps the progress.
func (fl *flight) note(source string, here int64) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.now.Source, fl.now.Here = source, here
}

// land ends the wait of all.
func (fl *flight) land(err error) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	fl.err = err
	if !fl.open {
		fl.open, fl.failed = true, err
		close(fl.ready)
	}
	close(fl.done)
}

// fly brings the blob into the store.
func (fl *flight) fly(ctx context.Context) error {
	err := fl.begin(ctx)
	if err == nil {
		err = fl.rounds(ctx)
	}
	if errors.Is(err, blob.ErrExists) {
		err = nil
	}
	if err == nil {
		return fl.arrived()
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	err = fmt.Errorf("fetch %s: %w", fl.want.Digest, err)
	if fl.w != nil {
		if e := fl.w.Abandon(err); e != nil {
			fl.f.cfg.Log.Warn("what came of a blob could not be kept", "digest", fl.want.Digest, "err", e)
		}
	}
	return err
}

// arrived tells the size to those who could not know it before.
func (fl *flight) arrived() error {
	info, err := fl.f.cfg.Store.Stat(fl.want.Digest)
	if err != nil {
		return fmt.Errorf("fetch %s: look for it: %w", fl.want.Digest, err)
	}
	proved := false
	for i := range fl.gave {
		proved = proved || fl.sources[i].Proves()
	}
	fl.giving(info.Size, proved)
	return nil
}

// begin takes the blob's writer, and has room made for it before anybody is asked. Somebody else's write, as of a manifest that a person
// brought, is waited for.
func (fl *flight) begin(ctx context.Context) error {
	store := fl.f.cfg.Store
	for {
		w, err := store.Writer(fl.want.Digest)
		if errors.Is(err, blob.ErrBusy) {
			if err := fl.watch(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		fl.w, fl.resumed, fl.gave = w, w.Offset() > 0, map[int]bool{}
		if fl.want.Size < 0 {
			return nil
		}
		err = w.Expect(ctx, fl.want.Size)
		if _, mismatch := errors.AsType[*blob.MismatchError](err); err == nil || !mismatch && !errors.Is(err, blob.ErrSize) {
			return err
		}
		if fl.anew >= mostAnew {
			return err
		}
		if err := fl.restart(err); err != nil {
			return err
		}
	}
}

// restart throws away what has come: it is wrong, or of another size.
func (fl *flight) restart(why error) error {
	fl.anew++
	fl.f.cfg.Log.Warn("what had come of a blob is wrong; it is fetched from the beginning", "digest", fl.want.Digest, "err", why)
	err := fl.w.Discard(why) // nothing if it has ended by itself
	fl.w = nil
	return err
}

// watch waits for the end of somebody else's write, whatever it is.
func (fl *flight) watch(ctx context.Context) error {
	r, err := fl.f.cfg.Store.Follow(ctx, fl.want.Digest, 0)
	if errors.Is(err, blob.ErrNotFound) {
		return nil // it is just over, or just beginning
	}
	if err != nil {
		return err
	}
	defer r.Close()
	buf := make([]byte, buffer)
	for err == nil {
		_, err = r.Read(buf)
	}
	return ctx.Err()
}

// wrong is the error of a source that gave something else.
func (fl *flight) wrong(s Source, err error) error {
	return &upstream.Error{Kind: upstream.ErrorPage, Registry: s.Name(), Doing: "fetch " + fl.want.Digest.String(), Err: err}
}
