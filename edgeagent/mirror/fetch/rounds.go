package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/blob"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

const (
	// buffer is what one fetch has in memory.
	buffer = 64 << 10
	// headway is how many bytes an attempt must have brought to count as one that got on.
	headway = 64 << 10
	// longestWait is how long a source that is asked too often is waited for; one that wants more counts as failed.
	longestWait = 10 * time.Second
)

// rounds asks all sources, again and again while that may help.
func (fl *flight) rounds(ctx context.Context) error {
	for round := 0; ; round++ {
		before := fl.w.Offset()
		after, err := fl.round(ctx)
		if err == nil || fl.final(ctx, err) {
			return err
		}
		if fl.w.Offset() >= before+headway {
			round = 0
		}
		// Nobody follows yet: an answer is worth more than another attempt.
		most := fl.f.cfg.Rounds
		if !fl.begun() {
			most = 2
		}
		if round+1 >= most || !fl.mayPass(err) || after > longestWait {
			return err
		}
		wait := fl.f.cfg.Pause << round
		wait = max(wait/2+rand.N(wait/2+1), after)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// mayPass tells whether asking again soon may help. That a registry cannot be connected is known at once and told at once; only a blob that
// is on its way is worth waiting for.
func (fl *flight) mayPass(err error) bool {
	if fl.begun() && (errors.Is(err, upstream.Unavailable) || errors.Is(err, upstream.Stalled)) {
		return true
	}
	return errors.Is(err, upstream.Dropped) || errors.Is(err, upstream.Broken) || errors.Is(err, upstream.RateLimited)
}

// round asks each source in turn. The error is the last one's, which is the registry's where pool members come first; after is how long
// it wants to be left alone.
func (fl *flight) round(ctx context.Context) (after time.Duration, err error) {
	err = fmt.Errorf("there is nobody to ask: %w", upstream.Unavailable)
	for i, s := range fl.sources {
		if fl.bad[i] {
			continue
		}
		if err = fl.drain(ctx, i); err == nil || fl.final(ctx, err) {
			return 0, err
		}
		fl.f.cfg.Log.Debug("a source failed", "digest", fl.want.Digest, "source", s.Name(), "here", fl.w.Offset(), "err", err)
	}
	if len(fl.bad) == len(fl.sources) && fl.suspect() && fl.anew < mostAnew {
		// They cannot all be wrong: what was here before them may be.
		clear(fl.bad)
		if err := fl.restart(err); err != nil {
			return 0, err
		}
		if err := fl.begin(ctx); err != nil {
			return 0, err
		}
		return fl.round(ctx)
	}
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		after = e.RetryAfter
	}
	return after, err
}

// suspect tells whether what an earlier fetch left may be why sources seem wrong: its bytes, or the size it was told.
func (fl *flight) suspect() bool {
	return fl.resumed || fl.want.Size < 0 && fl.w.Size() >= 0
}

// final tells whether an error is not the source's: no other source helps.
func (fl *flight) final(ctx context.Context, err error) bool {
	_, theirs := errors.AsType[*upstream.Error](err)
	return ctx.Err() != nil || !theirs
}

// drain takes from a source as long as it gets on: one that breaks off is asked for the rest.
func (fl *flight) drain(ctx context.Context, i int) error {
	for {
		before := fl.w.Offset()
		err := fl.attempt(ctx, i)
		if err == nil || !errors.Is(err, upstream.Dropped) || fl.w.Offset() < before+headway {
			return err
		}
	}
}

// attempt makes one request to a source. Errors that are the source's are *upstream.Error; others are the store's or the context's.
func (fl *flight) attempt(ctx context.Context, i int) error {
	s, want, from := fl.sources[i], fl.want, fl.w.Offset()
	if size := fl.w.Size(); size >= 0 {
		if from == size {
			return fl.commit(ctx, i)
		}
		want.Size = size
	}
	fl.note(s.Name(), from)
	b, err := s.Open(ctx, want, from)
	if err != nil {
		if errors.Is(err, upstream.ErrorPage) {
			fl.bad[i] = true
		}
		return theirs(ctx, s, err)
	}
	defer b.Body.Close()
	if b.Size >= 0 {
		if err := fl.w.Expect(ctx, b.Size); err != nil {
			return fl.unfit(ctx, i, err)
		}
	}
	fl.giving(b.Size, s.Proves())
	fl.gave[i] = true
	if err := fl.copy(ctx, i, b.Body); err != nil {
		return err
	}
	return fl.commit(ctx, i)
}

// copy takes what a source gives until its end.
func (fl *flight) copy(ctx context.Context, i int, body io.Reader) error {
	s, buf := fl.sources[i], make([]byte, buffer)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if _, e := fl.w.Write(buf[:n]); e != nil {
				return fl.unfit(ctx, i, e)
			}
			fl.note(s.Name(), fl.w.Offset())
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			if errors.Is(err, upstream.ErrorPage) {
				fl.bad[i] = true
			}
			return theirs(ctx, s, err)
		}
	}
}

// commit puts the blob into the store.
func (fl *flight) commit(ctx context.Context, i int) error {
	err := fl.w.Commit()
	if err == nil {
		return nil
	}
	if errors.Is(err, blob.ErrIncomplete) {
		return &upstream.Error{Kind: upstream.Dropped, Registry: fl.sources[i].Name(), Doing: "fetch " + fl.want.Digest.String(), Err: err}
	}
	return fl.unfit(ctx, i, err)
}

// unfit looks at an error of the writer. If the bytes or the size are wrong the source is to blame that gave all of them; where several
// gave, or an earlier fetch left some, nobody is blamed and the blob begins anew.
func (fl *flight) unfit(ctx context.Context, i int, err error) error {
	_, mismatch := errors.AsType[*blob.MismatchError](err)
	if !mismatch && !errors.Is(err, blob.ErrSize) {
		return err
	}
	s := fl.sources[i]
	if !mismatch {
		fl.bad[i] = true // it is the size, of which nothing was taken
		return fl.wrong(s, err)
	}
	alone := !fl.resumed && len(fl.gave) <= 1
	if alone {
		fl.bad[i] = true
	}
	fl.f.cfg.Log.Warn("a blob is not what its digest says", "digest", fl.want.Digest, "source", s.Name(), "alone", alone, "err", err)
	if fl.anew++; fl.anew > mostAnew+len(fl.sources) {
		return err
	}
	fl.w = nil
	if e := fl.begin(ctx); e != nil {
		return e
	}
	if !alone {
		return fl.attempt(ctx, i)
	}
	return fl.wrong(s, err)
}

// theirs makes sure that an error of a source can be told from the store's, and from the end of the fetch.
func theirs(ctx context.Context, s Source, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, ok := errors.AsType[*upstream.Error](err); ok {
		return err
	}
	return &upstream.Error{Kind: upstream.Dropped, Registry: s.Name(), Doing: "fetch", Err: err}
}
