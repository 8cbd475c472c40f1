package blob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// ScrubOptions are how the store is read through in the background.
type ScrubOptions struct {
	BytesPerSecond int64         // 0 is as fast as the disk
	Every          time.Duration // from the end of one pass to the next; 0 is a week
	// Corrupt is told of each blob that was damaged; it is in quarantine then and has to be fetched again. It may take its time.
	Corrupt func(context.Context, *CorruptError)
}

// scrubSaveEvery is how often it is written where the scrub is: rarely, and without a flush.
const scrubSaveEvery = 10 * time.Minute

// scrub is one background reading of the store. What is exported is what its file says.
type scrub struct {
	s     *Store
	o     ScrubOptions
	pacer pacer
	saved time.Time

	After    oci.Digest `json:"after,omitzero"`    // blobs up to this one were read in this pass
	Current  oci.Digest `json:"current,omitzero"`  // this one was begun…
	Offset   int64      `json:"offset,omitempty"`  // …and read so far…
	State    []byte     `json:"state,omitempty"`   // …with this hash
	Finished time.Time  `json:"finished,omitzero"` // the last pass, if none is under way
}

// Scrub reads all blobs again and again, at a bounded pace, until the context ends, and goes on where an earlier process stopped. What
// is damaged goes to quarantine and is told of. One at a time.
func (s *Store) Scrub(ctx context.Context, o ScrubOptions) error {
	if o.Every <= 0 {
		o.Every = 7 * 24 * time.Hour
	}
	c := scrub{s: s, o: o, pacer: pacer{perSecond: o.BytesPerSecond}, saved: time.Now()}
	c.load()
	for {
		if !c.Finished.IsZero() {
			// The clock may have been set since: never longer than from a pass that ends now.
			wait := min(max(0, time.Until(c.Finished.Add(o.Every))), o.Every)
			if !sleep(ctx, wait) {
				return nil
			}
		}
		c.Finished = time.Time{}
		err := c.pass(ctx)
		if ctx.Err() != nil {
			return c.save()
		}
		if err != nil {
			return fmt.Errorf("scrub: %w", err)
		}
		c.After, c.Finished = oci.Digest{}, time.Now()
		if err := c.save(); err != nil {
			s.log.Warn("it is not kept where the scrub is; it would begin anew after a restart", "error", diskError(err))
		}
	}
}

// pass reads all blobs that are left of this pass. One that cannot be read does not keep the others from it.
func (c *scrub) pass(ctx context.Context) error {
	for info, err := range c.s.All(ctx, c.After) {
		if err != nil {
			return err
		}
		err := c.check(ctx, info.Digest)
		var corrupt *CorruptError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &corrupt):
			if c.o.Corrupt != nil {
				c.o.Corrupt(ctx, corrupt)
			}
		case err != nil && !errors.Is(err, ErrNotFound):
			c.s.log.Warn("a blob could not be checked", "digest", info.Digest, "error", err)
		}
		c.After, c.Current, c.Offset, c.State = info.Digest, oci.Digest{}, 0, nil
	}
	return nil
}

// check reads one blob, and of one that was begun the rest.
func (c *scrub) check(ctx context.Context, d oci.Digest) error {
	h, from := d.Algorithm().New(), int64(0)
	if d == c.Current && restore(h, c.State) == nil {
		from = c.Offset
	}
	return c.s.check(d, h, from, func(offset int64, n int) error {
		if time.Since(c.saved) >= scrubSaveEvery {
			c.at(d, offset, h)
			if err := c.save(); err != nil {
				return err
			}
		}
		if err := c.pacer.wait(ctx, n); err != nil {
			c.at(d, offset, h)
			return err
		}
		return nil
	})
}

func (c *scrub) at(d oci.Digest, offset int64, h hash.Hash) {
	if state, err := stateOf(h); err == nil {
		c.Current, c.Offset, c.State = d, offset, state
	}
}

func (c *scrub) path() string { return filepath.Join(c.s.dir, scrubName) }

// load takes what the file says, if it can be read; else a pass begins.
func (c *scrub) load() {
	data, err := os.ReadFile(c.path())
	if err != nil {
		return
	}
	var kept scrub
	if json.Unmarshal(data, &kept) == nil && kept.Offset >= 0 {
		c.After, c.Current, c.Offset, c.State, c.Finished = kept.After, kept.Current, kept.Offset, kept.State, kept.Finished
	}
}

func (c *scrub) save() error {
	c.saved = time.Now()
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write %s: %w", scrubName, err)
	}
	return c.s.disk.replace(c.path(), data, false)
}

// Verify reads one blob and compares it with its digest. A CorruptError says that it was damaged and is in quarantine now.
func (s *Store) Verify(ctx context.Context, d oci.Digest) error {
	if d.IsZero() {
		return notFound(d, os.ErrNotExist)
	}
	return s.check(d, d.Algorithm().New(), 0, func(int64, int) error { return ctx.Err() })
}

// check hashes a blob from an offset on. next is told after each piece, and may end it.
func (s *Store) check(d oci.Digest, h hash.Hash, from int64, next func(offset int64, n int) error) error {
	defer s.Pin(d)()
	f, err := openQuiet(s.path(d))
	if err != nil {
		return notFound(d, err)
	}
	defer f.Close()
	uncache(f, 0, 0)
	piece := make([]byte, 128<<10)
	for offset := from; ; {
		n, err := f.ReadAt(piece, offset)
		h.Write(piece[:n])
		uncache(f, offset, int64(n))
		offset += int64(n)
		if n > 0 {
			if err := next(offset, n); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			if got := oci.FromHash(d.Algorithm(), h); got != d {
				return s.condemn(f, d, got, nil)
			}
			return nil
		case err != nil:
			return s.condemn(f, d, oci.Digest{}, err)
		}
	}
}

// pacer spreads bytes over time.
type pacer struct {
	perSecond int64
	due       time.Time
}

// wait counts n bytes and returns when they are due.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p.perSecond <= 0 {
		return ctx.Err()
	}
	now := time.Now()
	if p.due.Before(now) { // time that was not used is gone
		p.due = now
	}
	p.due = p.due.Add(time.Duration(float64(n) / float64(p.perSecond) * float64(time.Second)))
	if !sleep(ctx, p.due.Sub(now)) {
		return ctx.Err()
	}
	return nil
}

// sleep tells whether the time passed before the context ended.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
