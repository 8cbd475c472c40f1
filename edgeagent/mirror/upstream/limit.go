package upstream

import (
	"context"
	"sync"
	"time"
)

// Limiter bounds the bytes a second that all registries sharing it download together. The mirror slows down by not reading, so the
// network does the rest. A nil Limiter bounds nothing.
type Limiter struct {
	mu   sync.Mutex // guards what follows
	rate int64      // bytes a second; 0 is no bound
	free time.Time  // when all that was read has had its time
}

const (
	// burst is what may be read at once after a silence, in time.
	burst = 50 * time.Millisecond
	// chunk is the most that is read at once under a limit.
	chunk = 32 << 10
)

// NewLimiter makes a Limiter of so many bytes a second; 0 bounds nothing.
func NewLimiter(bytesPerSecond int64) *Limiter { return &Limiter{rate: max(bytesPerSecond, 0)} }

// Set changes the bound.
func (l *Limiter) Set(bytesPerSecond int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = max(bytesPerSecond, 0)
}

// most is how much of a buffer may be filled by one read: under a low limit little, so that those who share it take turns.
func (l *Limiter) most(n int) int {
	if l == nil {
		return n
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate == 0 {
		return n
	}
	return min(n, int(max(1, min(chunk, l.rate/10))))
}

// wait holds whoever has read n bytes until their time is over.
func (l *Limiter) wait(ctx context.Context, n int) error {
	if l == nil {
		return nil
	}
	pause := l.reserve(n)
	if pause <= 0 {
		return nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

func (l *Limiter) reserve(n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate == 0 {
		return 0
	}
	now := time.Now()
	if since := now.Add(-burst); l.free.Before(since) {
		l.free = since
	}
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	return l.free.Sub(now)
}
