package upstream

import (
	"math/rand/v2"
	"sync"
	"time"
)

// firstRetry is the pause after the first attempt that failed. Each further one doubles it.
const firstRetry = time.Second

// maxBreakers bounds the hosts that are remembered: redirects name any.
const maxBreakers = 64

// breaker remembers that a host could not be connected, so that only one request in a while waits for it. It counts nothing but
// connecting: a registry that is connected and fails says so itself.
//
//	closed ── cannot be connected ──▶ open ── the pause is over: one request tries ──▶ trying
//	  ▲                                ▲ └────────── a late connection ────────┐          │
//	  │                                └── cannot be connected, longer pause ──┼──────────┤
//	  └─────────────────────────────── connected ◀─────────────────────────────┴──────────┘
type breaker struct {
	mu     sync.Mutex // guards what follows
	failed int        // attempts since the last that connected; 0 is closed
	until  time.Time  // the end of the pause
	trying bool
	why    error
}

// breaker gives the one of a host.
func (l *link) breaker(host string) *breaker {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.breakers[host]
	if b == nil {
		if len(l.breakers) >= maxBreakers {
			l.forget()
		}
		b = &breaker{}
		l.breakers[host] = b
	}
	return b
}

// forget drops a breaker of an undeclared host.
func (l *link) forget() {
	for host := range l.breakers {
		if !l.declared[host] {
			delete(l.breakers, host)
			return
		}
	}
}

// enter asks for leave to connect. attempt: the caller is the one that tries while the others are turned away. Whoever enters leaves.
func (b *breaker) enter() (attempt bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == 0 {
		return false, nil
	}
	if b.trying || time.Now().Before(b.until) {
		return false, b.why
	}
	b.trying = true
	return true, nil
}

// connected closes the breaker. It says whether it was open.
func (b *breaker) connected() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	opened := b.failed > 0
	b.failed, b.trying, b.why = 0, false, nil
	return opened
}

// unavailable opens the breaker, or keeps it open for longer. Of many requests that fail together only the first counts. It says whether
// the breaker was closed, and how long the pause is.
func (b *breaker) unavailable(attempt bool, why error, longest time.Duration) (opened bool, pause time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed > 0 && !attempt {
		return false, 0
	}
	pause = min(firstRetry<<min(b.failed, 16), longest)
	pause = pause/2 + rand.N(pause/2+1)
	b.failed++
	b.trying, b.why, b.until = false, why, time.Now().Add(pause)
	return b.failed == 1, pause
}

// undecided lets the next request try: the one that tried was given up before it was known.
func (b *breaker) undecided(attempt bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if attempt {
		b.trying = false
	}
}
