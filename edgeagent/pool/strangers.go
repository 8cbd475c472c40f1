package pool

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

const (
	// barAfter is how many handshakes a host may fail in a row before it is turned away, for barFor, without one: a handshake costs a
	// millisecond of the processor.
	barAfter, barFor = 5, 10 * time.Second
	// maxStrangers bounds how many hosts are remembered.
	maxStrangers = 256
	// warnEvery bounds how often a refusal is a warning.
	warnEvery = time.Minute
)

// strangers keeps those who are no members from using up the processor and filling the log. The zero value is ready.
type strangers struct {
	mu     sync.Mutex // guards what follows
	hosts  map[netip.Addr]stranger
	warned time.Time
	more   int
}

type stranger struct {
	failed int
	last   time.Time
}

// barred tells whether a host is turned away now.
func (s *strangers) barred(host netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hosts[host]
	return h.failed >= barAfter && time.Since(h.last) < barFor
}

// refused counts a handshake that failed, and logs it.
func (s *strangers) refused(log *slog.Logger, host netip.Addr, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	h := s.hosts[host]
	if now.Sub(h.last) >= barFor {
		h.failed = 0
	}
	if len(s.hosts) >= maxStrangers || s.hosts == nil {
		s.hosts = map[netip.Addr]stranger{}
	}
	s.hosts[host] = stranger{failed: h.failed + 1, last: now}
	log.Debug("a connection to the pool was refused", "from", host, "error", why)
	if now.Sub(s.warned) < warnEvery {
		s.more++
		return
	}
	log.Warn("a connection to the pool was refused: who made it proved no member's key", "from", host, "error", why, "more_before", s.more)
	s.warned, s.more = now, 0
}

// forgive gives every host another try: the members are others now.
func (s *strangers) forgive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts = nil
}
