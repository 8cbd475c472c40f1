package upstream

import (
	"context"
	"errors"
	"sync"
	"time"
)

// maxTokens bounds the tokens that are kept.
const maxTokens = 512

// tokenKey says what a token is for and whose it is.
type tokenKey struct {
	credential            [32]byte
	realm, service, scope string
}

// tokens keeps tokens in memory while they are good. Their age is measured here: wall clocks may be wrong.
type tokens struct {
	mu    sync.Mutex // guards what follows
	known map[tokenKey]*token
}

// token is an Authorization header, or the wait for it.
type token struct {
	ready  chan struct{} // closed when the rest is there
	header string
	until  time.Time
	err    error
}

func (t *tokens) init() { t.known = map[tokenKey]*token{} }

// get gives a token that is good, and not the stale one. However many ask, one fetches it.
func (t *tokens) get(ctx context.Context, key tokenKey, stale string, fetch func() (string, time.Duration, error)) (string, error) {
	for {
		entry, mine := t.entry(key, stale)
		if mine {
			began := time.Now()
			header, life, err := fetch()
			t.settle(key, entry, header, began.Add(life*9/10), err)
			return header, err
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-entry.ready:
		}
		var failed *Error
		if entry.err == nil || errors.As(entry.err, &failed) {
			return entry.header, entry.err
		}
		// Whoever fetched it was called off: the next one does.
	}
}

// entry gives the token for a key, or a new one that the caller fetches.
func (t *tokens) entry(key tokenKey, stale string) (entry *token, mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if entry = t.known[key]; entry != nil && (!entry.isReady() || entry.header != stale && time.Now().Before(entry.until)) {
		return entry, false
	}
	if entry == nil && len(t.known) >= maxTokens {
		t.shrink()
	}
	entry = &token{ready: make(chan struct{})}
	t.known[key] = entry
	return entry, true
}

// shrink makes room: of what is over, or else of any one.
func (t *tokens) shrink() {
	var victim tokenKey
	for key, entry := range t.known {
		if !entry.isReady() {
			continue
		}
		victim = key
		if !time.Now().Before(entry.until) {
			delete(t.known, key)
		}
	}
	if len(t.known) >= maxTokens {
		delete(t.known, victim)
	}
}

func (t *tokens) settle(key tokenKey, entry *token, header string, until time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	entry.header, entry.until, entry.err = header, until, err
	if err != nil && t.known[key] == entry {
		delete(t.known, key)
	}
	close(entry.ready)
}

func (t *token) isReady() bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}
