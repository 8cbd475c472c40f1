package blob

import (
	"context"
	"io"
	"sync"
)

// growth is what readers may see of a blob that is being written.
type growth struct {
	mu        sync.Mutex // guards all below
	available int64
	size      int64 // -1 until somebody said
	done      bool
	err       error         // why it ended, if it is not whole
	changed   chan struct{} // closed when something changes; nil while nobody waits
}

func (g *growth) grow(available int64) { g.update(func() { g.available = available }) }

func (g *growth) expect(size int64) { g.update(func() { g.size = size }) }

func (g *growth) finish(err error) {
	g.update(func() {
		if !g.done {
			g.done, g.err = true, err
		}
	})
}

func (g *growth) update(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// wait returns how many bytes are there once there are more than offset. io.EOF when there will be no more, or why there will not.
func (g *growth) wait(ctx context.Context, offset int64) (int64, error) {
	for {
		g.mu.Lock()
		available, done, err := g.available, g.done, g.err
		changed := g.waiting()
		g.mu.Unlock()
		switch {
		case available > offset:
			return available, nil
		case err != nil:
			return 0, err
		case done:
			return 0, io.EOF
		}
		if err := pause(ctx, changed); err != nil {
			return 0, err
		}
	}
}

// waitSize returns the size of the whole blob once it is known.
func (g *growth) waitSize(ctx context.Context) (int64, error) {
	for {
		g.mu.Lock()
		size, err := g.size, g.err
		changed := g.waiting()
		g.mu.Unlock()
		switch {
		case size >= 0:
			return size, nil
		case err != nil:
			return 0, err
		}
		if err := pause(ctx, changed); err != nil {
			return 0, err
		}
	}
}

// waiting is closed at the next change. g.mu is held.
func (g *growth) waiting() <-chan struct{} {
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return g.changed
}

func pause(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
