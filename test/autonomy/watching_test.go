//go:build e2e || bench

package autonomy

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// watcher lists and watches one query, as a reflector does, and checks that its history makes sense: versions only grow, nothing changes
// that is not there. etcd 3.4 has no streams with initial events.
type watcher struct {
	query
	body  io.Closer
	ended chan struct{}
	// arrived is told of every event, if it is not nil.
	arrived func(wire.Frame)

	mu      sync.Mutex // guards what follows
	objects map[string]scope.Item
	version string
	events  int
	err     error // why it ended, or what is wrong
}

// follow lists, and watches from there on, until it is closed.
func follow(c *http.Client, base string, q query, arrived func(wire.Frame)) (*watcher, error) {
	w := &watcher{query: q, ended: make(chan struct{}), arrived: arrived}
	objects, list, err := list(c, q.url(base, ""))
	if err != nil {
		return nil, err
	}
	w.objects, w.version = objects, list.Version
	resp, err := open(c, q.url(base, list.Version), protobufWatch)
	if err != nil {
		return nil, err
	}
	w.body = resp.Body
	go w.read(resp.Body)
	return w, nil
}

// list reads a list whole.
func list(c *http.Client, address string) (map[string]scope.Item, wire.List, error) {
	raw, head, err := ask(c, address, protobufList)
	if err != nil {
		return nil, wire.List{}, err
	}
	if got := head.Get("Content-Type"); got != "application/vnd.kubernetes.protobuf" {
		return nil, wire.List{}, fmt.Errorf("GET %s: Content-Type %q", address, got)
	}
	objects := map[string]scope.Item{}
	scanner := wire.NewListScanner(scope.Protobuf, wire.Limits{}, func(item scope.Item) error {
		objects[item.Namespace+"/"+item.Name] = item
		return nil
	})
	if _, err := scanner.Write(raw); err != nil {
		return nil, wire.List{}, err
	}
	list, err := scanner.Close()
	return objects, list, err
}

func (w *watcher) read(body io.ReadCloser) {
	defer close(w.ended)
	defer body.Close()
	scanner := wire.NewWatchScanner(scope.Protobuf, wire.Limits{}, w.frame)
	_, err := io.CopyBuffer(struct{ io.Writer }{scanner}, struct{ io.Reader }{body}, make([]byte, 4<<10))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = errors.Join(w.err, err, scanner.Close(), fmt.Errorf("the watch %s?%s ended at version %s", w.path, w.fields, w.version))
}

// frame takes one event.
func (w *watcher) frame(f wire.Frame) error {
	if w.arrived != nil {
		w.arrived(f)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.Type == wire.Error {
		return fmt.Errorf("an error came: %q", f.Raw)
	}
	if older, ok := scope.Older(f.Item.Version, w.version); older || !ok {
		return fmt.Errorf("%s %s has version %s, after %s", f.Type, f.Item.Name, f.Item.Version, w.version)
	}
	name := f.Item.Namespace + "/" + f.Item.Name
	_, known := w.objects[name]
	switch w.version = f.Item.Version; {
	case f.Type == wire.Bookmark:
		return nil
	case known == (f.Type == wire.Added):
		return fmt.Errorf("%s %s, which is there: %v", f.Type, name, known)
	case f.Type == wire.Deleted:
		delete(w.objects, name)
	default:
		w.objects[name] = f.Item
	}
	w.events++
	return nil
}

// state gives what the watch has brought so far.
func (w *watcher) state() (objects map[string]scope.Item, events int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.objects), w.events, w.err
}

func (w *watcher) close() {
	w.body.Close()
	<-w.ended
}

// play has the test's kubelet list and watch on one connection, as a kubelet does.
func (l *loaded) play(queries []query) []*watcher {
	l.Helper()
	c := client(l.behind)
	watchers := make([]*watcher, len(queries))
	l.each(len(queries), func(i int) {
		l.within(time.Minute, func() (err error) {
			watchers[i], err = follow(c, l.address, queries[i], nil)
			return err
		})
	})
	l.Cleanup(func() {
		for _, w := range watchers {
			w.close()
		}
		c.CloseIdleConnections()
	})
	return watchers
}
