package proxy

import (
	"context"
	"sync"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// maxPending bounds the events of one scope that are held while it is listed anew, in bytes.
const maxPending = 1 << 20

// feed is what watches bring to one scope. Several may bring the same; the store skips what it has. As long as the events follow on
// what is kept they go there. Once there is a gap the scope is dirty, and listed anew; what comes meanwhile is held.
type feed struct {
	s       *Server
	key     scope.Key
	watches int // guarded by feeds.mu

	mu      sync.Mutex // guards what follows
	token   string     // of the watch that joined last; "" for the node
	enc     scope.Encoding
	broken  string // why events do not follow on what is kept, or ""
	from    string // the version that a list must have reached for them to follow, or ""
	listing bool   // events are held
	pending []scope.Event
	bytes   int
	over    bool // more came than is held
	mending bool // a goroutine is at it
}

// feeds are the feeds of all scopes that are watched, and of those that are being listed anew.
type feeds struct {
	s *Server

	mu    sync.Mutex // guards what follows
	byKey map[scope.Key]*feed

	life life
	turn chan struct{} // who holds it may list: one at a time
}

func newFeeds(s *Server) *feeds {
	return &feeds{s: s, byKey: map[scope.Key]*feed{}, turn: make(chan struct{}, 1)}
}

// life is the time in which goroutines may be started.
type life struct {
	mu  sync.Mutex      // guards ctx, and that none is started once it is nil
	ctx context.Context // nil before begin and after end
	wg  sync.WaitGroup
}

func (l *life) begin(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ctx = ctx
}

func (l *life) start(f func(context.Context)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		return false
	}
	ctx := l.ctx
	l.wg.Go(func() { f(ctx) })
	return true
}

func (l *life) end() {
	l.mu.Lock()
	l.ctx = nil
	l.mu.Unlock()
	l.wg.Wait()
}

// watches gives how many watches are followed.
func (fs *feeds) watches() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n := 0
	for _, f := range fs.byKey {
		n += f.watches
	}
	return n
}

// of gives the feed of a scope. watches is added to those it has.
func (fs *feeds) of(key scope.Key, watches int) *feed {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.byKey[key]
	if f == nil {
		f = &feed{s: fs.s, key: key, enc: scope.Protobuf}
		fs.byKey[key] = f
	}
	f.watches += watches
	return f
}

// join has a watch bring its events from a version on; "" if that is not known.
func (fs *feeds) join(t *watchTap, from string) *feed {
	f := fs.of(t.key, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.token, f.enc = t.token, t.enc
	switch {
	case f.broken == "" && f.follows(from):
	case f.broken == "":
		f.from = from
		f.breakOff("a watch began at version " + from + ", which does not follow on what is kept")
	default:
		// What is kept must reach where the newest of the watches began, or its events would overtake another's.
		if older, ok := scope.Older(f.from, from); from == "" || f.from != "" && (older || !ok) {
			f.from = from
		}
		f.startMending()
	}
	return f
}

// leave ends what a watch brings.
func (fs *feeds) leave(f *feed) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f.watches--
	fs.tidy(f)
}

// tidy forgets a feed that nobody needs. The lock is held.
func (fs *feeds) tidy(f *feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watches == 0 && !f.mending {
		delete(fs.byKey, f.key)
	}
}

// relist lists a scope anew if someone whose credential is at hand reads it.
func (fs *feeds) relist(key scope.Key) {
	if info, ok := fs.s.cfg.Store.Info(key); ok && info.Dirty == "" {
		return // it was listed meanwhile
	}
	if key.Identity != fs.s.node() {
		fs.mu.Lock()
		known := fs.byKey[key] != nil
		fs.mu.Unlock()
		if !known {
			return
		}
	}
	f := fs.of(key, 0)
	f.gap("the cache gave up following it")
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.tidy(f)
}

// follows tells whether events from a version on follow on what is kept. The lock is held.
func (f *feed) follows(from string) bool {
	info, ok := f.s.cfg.Store.Info(f.key)
	if !ok || info.Dirty != "" || from == "" {
		return false
	}
	older, ok := scope.Older(from, info.Version)
	return from == info.Version || ok && older
}

// event takes one event.
func (f *feed) event(e scope.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.broken == "":
		f.s.cfg.Store.Apply(f.key, e.Item.Version, []scope.Event{e})
	case f.listing && !f.over:
		if f.bytes += len(e.Item.Raw); f.bytes > maxPending {
			f.pending, f.over = nil, true
			return
		}
		f.pending = append(f.pending, e)
	}
}

// bookmark takes a version that upstream has got to without an event.
func (f *feed) bookmark(version string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken == "" {
		f.s.cfg.Store.Advance(f.key, version)
	}
}

// gap says that events were lost.
func (f *feed) gap(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.from = ""
	f.breakOff(why)
}

// breakOff begins to mend the feed. The lock is held.
func (f *feed) breakOff(why string) {
	if f.broken == "" {
		f.broken = why
		f.hold()
	}
	f.startMending()
}

// hold begins to hold events. The lock is held.
func (f *feed) hold() { f.listing, f.pending, f.bytes, f.over = true, nil, 0, false }

// startMending starts the goroutine that mends the feed, if the server runs. The lock is held.
func (f *feed) startMending() {
	if !f.mending {
		f.mending = f.s.feeds.life.start(f.mend)
	}
}
