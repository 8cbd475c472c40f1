package proxy

import (
	"slices"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// listTap keeps the answer to a LIST, once all its pages have passed.
type listTap struct {
	s       *Server
	key     scope.Key
	options request.Options
	asked   asked
	scanner *wire.ListScanner
	items   []scope.Item
	share   share
	err     error
}

func (s *Server) listTap(key scope.Key, encoding scope.Encoding, options request.Options, a asked) *listTap {
	t := &listTap{s: s, key: key, options: options, asked: a, share: share{budget: &s.budget}}
	t.scanner = wire.NewListScanner(encoding, wire.Limits{}, func(item scope.Item) error {
		t.items = append(t.items, item)
		return t.share.add(len(item.Raw))
	})
	return t
}

func (t *listTap) take(p []byte) {
	if t.err == nil {
		if _, t.err = t.scanner.Write(p); t.err != nil {
			t.items = nil
			t.share.free()
		}
	}
}

func (t *listTap) between() bool { return false }

func (t *listTap) done(whole bool) {
	if !whole {
		t.share.free()
		return
	}
	list, err := t.close()
	switch {
	case err != nil:
		t.s.unkept(t.key, err)
		// What is kept is complete, and older than what the client has seen now.
		t.s.cfg.Store.Dirty(t.key, "a list could not be read: "+err.Error())
	case !t.fits(list): // another shape than was asked for
		t.share.free()
	default:
		t.s.page(t.key, t.options, list, page{items: t.items, share: t.share, asked: t.asked})
	}
}

// close gives the list once all of it was taken. After an error nothing is held any more.
func (t *listTap) close() (wire.List, error) {
	var list wire.List
	if t.err == nil {
		list, t.err = t.scanner.Close()
	}
	if t.err != nil {
		t.items = nil
		t.share.free()
		return wire.List{}, t.err
	}
	for i := range t.items {
		t.items[i] = list.Own(t.items[i])
	}
	return list, nil
}

// fits tells whether a list has the shape that its scope is for.
func (t *listTap) fits(list wire.List) bool {
	return t.key.Metadata == (list.Kind.Kind == "PartialObjectMetadataList") && list.Kind.Kind != "Table"
}

// page puts a page to those before it. The last one makes the scope.
func (s *Server) page(key scope.Key, options request.Options, list wire.List, p page) {
	p.version = list.Version
	if options.Continue != "" {
		before, ok := s.pages.take(key, options.Continue)
		if !ok || before.version != list.Version { // the first page was not seen, or this one is of another state
			before.share.free()
			p.share.free()
			return
		}
		p.asked = before.asked // all pages are of the state of the first
		p.items = append(before.items, p.items...)
		p.share.bytes += before.share.bytes
	}
	if list.Continue != "" {
		s.pages.put(key, list.Continue, p)
		return
	}
	defer p.share.free()
	s.unlessBehind(key, list.Version, p.asked, func() { s.cfg.Store.Replace(key, list.Kind, list.Version, p.items) })
}

const (
	// maxPages bounds the lists whose next page is waited for, and pageTime how long. kube-apiserver's own tokens live for five minutes.
	maxPages = 16
	pageTime = 5 * time.Minute
)

// page is what was read of a list so far.
type page struct {
	items   []scope.Item
	version string
	asked   asked
	share   share
}

// pages are lists whose next page is to come, oldest first.
type pages struct {
	mu   sync.Mutex
	open []waiting
}

type waiting struct {
	key   scope.Key
	token string
	since time.Time
	page
}

// take takes out what came before a page.
func (p *pages) take(key scope.Key, token string) (page, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := slices.IndexFunc(p.open, func(w waiting) bool { return w.key == key && w.token == token })
	if at < 0 {
		return page{share: share{budget: new(budget)}}, false
	}
	w := p.open[at]
	p.open = slices.Delete(p.open, at, at+1)
	return w.page, true
}

// put keeps a list until its next page.
func (p *pages) put(key scope.Key, token string, pg page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.open) > 0 && (len(p.open) >= maxPages || time.Since(p.open[0].since) > pageTime) {
		p.open[0].share.free()
		p.open = slices.Delete(p.open, 0, 1)
	}
	p.open = append(p.open, waiting{key, token, time.Now(), pg})
}
