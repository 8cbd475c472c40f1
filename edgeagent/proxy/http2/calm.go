package http2

import (
	"time"

	frames "golang.org/x/net/http2"
)

// What a client may send in calmTime that costs it nothing, and nothing comes of: PING, SETTINGS, PRIORITY, empty DATA, unknown frames;
// and beyond these WINDOW_UPDATE, one for each updateBytes that were sent to it, and minResets resets of requests, or two for each
// request that it may have under way.
const (
	calmTime    = 10 * time.Second
	maxCheap    = 10_000
	updateBytes = 256
	minResets   = 500
)

// calm counts what a client sends without purpose. The leader has it.
type calm struct {
	began                  time.Time
	frames, updates, drops int
	sent                   int64 // to the client when updates began to be counted, or -1
}

func (c *calm) tick() {
	if now := time.Now(); now.Sub(c.began) > calmTime {
		*c = calm{began: now, sent: -1}
	}
}

// cheap counts a frame that asks for nothing much.
func (c *calm) cheap() error {
	c.tick()
	if c.frames++; c.frames > maxCheap {
		return connError{frames.ErrCodeEnhanceYourCalm, "too many frames that ask for nothing"}
	}
	return nil
}

// update counts a WINDOW_UPDATE. sent is how many bytes of bodies the connection was sent so far.
func (c *calm) update(sent int64) error {
	if c.tick(); c.sent < 0 {
		c.sent = sent
	}
	if c.updates++; int64(c.updates) > maxCheap+(sent-c.sent)/updateBytes {
		return connError{frames.ErrCodeEnhanceYourCalm, "too many WINDOW_UPDATE frames"}
	}
	return nil
}

// reset counts a request that the client took back.
func (c *calm) reset(streams int) error {
	c.tick()
	if c.drops++; c.drops > max(minResets, 2*streams) {
		return connError{frames.ErrCodeEnhanceYourCalm, "too many requests were reset"}
	}
	return nil
}
