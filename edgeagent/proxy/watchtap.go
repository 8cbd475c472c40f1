package proxy

import (
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// watchTap keeps the events of a WATCH. One that begins with what there is (WatchList) is staged until the bookmark that ends it.
type watchTap struct {
	s       *Server
	key     scope.Key
	scanner *wire.WatchScanner
	stage   *stage // nil once the stream is past its initial events
	feed    *feed  // nil while it is not
	token   string
	enc     scope.Encoding
	asked   asked
	err     error
}

// stage is the initial events of a stream. Events of what changed meanwhile may be among them.
type stage struct {
	items map[[2]string]scope.Item
	share share
}

func (s *Server) watchTap(c *call, key scope.Key, encoding scope.Encoding) *watchTap {
	t := &watchTap{s: s, key: key, token: c.caller.Token, enc: encoding, asked: c.asked()}
	t.scanner = wire.NewWatchScanner(encoding, wire.Limits{}, t.frame)
	if c.req.Options.InitialEvents() && c.req.Options.AllowBookmarks {
		t.stage = &stage{items: map[[2]string]scope.Item{}, share: share{budget: &s.budget}}
		return t
	}
	from := t.asked.version
	if c.req.Options.InitialEvents() {
		from = "" // where its initial events end is never said
	}
	t.feed = s.feeds.join(t, from)
	return t
}

func (t *watchTap) take(p []byte) {
	if t.err != nil {
		return
	}
	if _, t.err = t.scanner.Write(p); t.err != nil {
		t.s.unkept(t.key, t.err)
		t.unstage()
		if t.feed == nil {
			t.feed = t.s.feeds.join(t, "")
		}
		t.feed.gap("an event could not be read: " + t.err.Error())
	}
}

func (t *watchTap) between() bool { return t.err == nil && t.scanner.Close() == nil }

func (t *watchTap) done(bool) {
	t.unstage()
	if t.feed != nil {
		t.s.feeds.leave(t.feed)
	}
}

func (t *watchTap) unstage() {
	if t.stage != nil {
		t.stage.share.free()
		t.stage = nil
	}
}

// frame takes one event.
func (t *watchTap) frame(f wire.Frame) error {
	switch f.Type {
	case wire.Bookmark:
		t.bookmark(f)
	case wire.Error: // the stream ends, and the client asks anew
	default:
		if t.stage != nil {
			return t.stage.add(f)
		}
		if t.feed != nil {
			t.feed.event(scope.Event{Deleted: f.Type == wire.Deleted, Item: f.Item})
		}
	}
	return nil
}

func (s *stage) add(f wire.Frame) error {
	at := [2]string{f.Item.Namespace, f.Item.Name}
	if f.Type == wire.Deleted {
		delete(s.items, at)
		return nil
	}
	s.items[at] = f.Item
	return s.share.add(len(f.Item.Raw))
}

func (t *watchTap) bookmark(f wire.Frame) {
	switch {
	case t.stage == nil && t.feed != nil:
		t.feed.bookmark(f.Item.Version)
	case t.stage != nil && f.InitialEventsEnd:
		items := make([]scope.Item, 0, len(t.stage.items))
		for _, item := range t.stage.items {
			items = append(items, item)
		}
		kind := scope.Kind{APIVersion: f.Item.APIVersion, Kind: f.Item.Kind + "List"}
		t.s.unlessBehind(t.key, f.Item.Version, t.asked, func() { t.s.cfg.Store.Replace(t.key, kind, f.Item.Version, items) })
		t.unstage()
		t.feed = t.s.feeds.join(t, f.Item.Version)
	}
}
