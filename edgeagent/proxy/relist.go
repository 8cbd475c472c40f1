package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

const (
	// overtaken is how long a gap may only be a client that asked for the watch before its list was put away.
	overtaken = 50 * time.Millisecond
	// maxPause is the longest pause between two attempts to list a scope anew.
	maxPause = time.Minute
	// relistTime bounds one list.
	relistTime = 2 * time.Minute
)

// errGiveUp says that trying again is of no use.
var errGiveUp = errors.New("not to be had")

// mend brings what is kept and the events together again. It runs in a goroutine of its own, one for each feed.
func (f *feed) mend(ctx context.Context) {
	defer func() {
		f.mu.Lock()
		f.mending = false
		f.mu.Unlock()
		f.s.feeds.mu.Lock()
		defer f.s.feeds.mu.Unlock()
		f.s.feeds.tidy(f)
	}()
	if !sleep(ctx, overtaken) || f.caughtUp() {
		return
	}
	f.s.cfg.Store.Dirty(f.key, f.why())
	pause := f.s.cfg.Spread
	for {
		if !sleep(ctx, rand.N(pause)+1) {
			return
		}
		if f.s.cfg.Link.State() != upstream.Online {
			return // watches end with the link, and the next one finds the gap again
		}
		err := f.relist(ctx)
		if err == nil && f.caughtUp() {
			f.s.metrics.relists.WithLabelValues("done").Inc()
			return
		}
		f.s.metrics.relists.WithLabelValues("failed").Inc()
		if errors.Is(err, errGiveUp) || ctx.Err() != nil {
			f.s.log.Debug("list a scope anew", "resource", f.key.Resource.String(), "namespace", f.key.Namespace, "identity", f.key.Identity, "err", err)
			return
		}
		pause = min(max(2*pause, time.Second), maxPause)
	}
}

func (f *feed) why() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.broken
}

// caughtUp tells whether what is kept has reached the events that are held, and if so lets them follow.
func (f *feed) caughtUp() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken == "" {
		return true
	}
	if f.over || !f.follows(f.from) {
		return false
	}
	for _, e := range f.pending { // those that the list has are skipped by the store
		f.s.cfg.Store.Apply(f.key, e.Item.Version, []scope.Event{e})
	}
	f.broken, f.listing, f.pending = "", false, nil
	return true
}

// relist reads the scope from upstream, with the credential of the watch that joined last.
func (f *feed) relist(ctx context.Context) error {
	fs := f.s.feeds
	select {
	case <-ctx.Done():
		return ctx.Err()
	case fs.turn <- struct{}{}:
		defer func() { <-fs.turn }()
	}
	ctx, cancel := context.WithTimeout(ctx, relistTime)
	defer cancel()
	f.mu.Lock()
	token, enc := f.token, f.enc
	f.hold() // a list that is asked for now has all that came before
	f.mu.Unlock()
	version, err := f.s.list(ctx, f.key, enc, token)
	if err == nil {
		f.mu.Lock()
		if older, ok := scope.Older(f.from, version); f.from == "" || ok && older {
			f.from = version // what is held follows on it
		}
		f.mu.Unlock()
	}
	return err
}

// list reads a scope from upstream and replaces it.
func (s *Server) list(ctx context.Context, key scope.Key, enc scope.Encoding, token string) (version string, err error) {
	a := asked{since: s.version(key)}
	resp, err := s.ask(ctx, path(key), acceptOf(key, enc), token)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	encoding, ok := encodingOf(resp.Header)
	switch {
	case resp.StatusCode == http.StatusForbidden:
		s.cfg.Store.Forget(key)
		return "", fmt.Errorf("%w: %s", errGiveUp, resp.Status)
	case resp.StatusCode == http.StatusNotFound && key.Name != "":
		s.cfg.Store.Forget(key)
		return "", fmt.Errorf("%w: %s", errGiveUp, resp.Status)
	case resp.StatusCode == http.StatusUnauthorized, !ok:
		return "", fmt.Errorf("%w: %s", errGiveUp, resp.Status)
	case resp.StatusCode != http.StatusOK:
		return "", errors.New(resp.Status)
	case key.Name != "":
		return s.putObject(key, encoding, resp.Body, a)
	}
	t := s.listTap(key, encoding, request.Options{}, a)
	buf := make([]byte, bodyBuffer)
	for {
		n, err := resp.Body.Read(buf)
		t.take(buf[:n])
		if err == io.EOF || t.err != nil { // there may be no end to the rest
			break
		}
		if err != nil {
			t.done(false)
			return "", err
		}
	}
	list, err := t.close()
	if errors.Is(err, wire.ErrTooLarge) || errors.Is(err, errHuge) {
		return "", fmt.Errorf("%w: %w", errGiveUp, err) // it would be no smaller the next time
	}
	if err != nil {
		return "", err
	}
	defer t.share.free()
	if !t.fits(list) {
		return "", fmt.Errorf("%w: upstream answers with a %s", errGiveUp, list.Kind.Kind)
	}
	s.unlessBehind(key, list.Version, a, func() { s.cfg.Store.Replace(key, list.Kind, list.Version, t.items) })
	return list.Version, nil
}

func (s *Server) putObject(key scope.Key, encoding scope.Encoding, body io.Reader, a asked) (string, error) {
	scanner := wire.NewObjectScanner(encoding, wire.Limits{})
	if _, err := io.Copy(scanner, body); err != nil {
		return "", err
	}
	item, err := scanner.Close("", "")
	if err != nil {
		return "", err
	}
	s.unlessBehind(key, item.Version, a, func() { s.cfg.Store.Put(key, item) })
	return item.Version, nil
}

// ask sends a GET of the proxy's own: with a token, or as the node.
func (s *Server) ask(ctx context.Context, target, accept, token string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "holdfast-proxy")
	req.Header.Set("Accept", accept)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return s.cfg.Link.RoundTrip(req, token == "")
}

// path gives the path and query that a scope is read at.
func path(key scope.Key) string {
	r := key.Resource
	p := "/api/" + r.Version
	if r.Group != "" {
		p = "/apis/" + r.Group + "/" + r.Version
	}
	if key.Namespace != "" {
		p += "/namespaces/" + url.PathEscape(key.Namespace)
	}
	p += "/" + url.PathEscape(r.Resource)
	if key.Name != "" {
		return p + "/" + url.PathEscape(key.Name)
	}
	q := url.Values{}
	if key.Labels != "" {
		q.Set("labelSelector", key.Labels)
	}
	if key.Fields != "" {
		q.Set("fieldSelector", key.Fields)
	}
	if len(q) > 0 {
		p += "?" + q.Encode()
	}
	return p
}

// acceptOf asks for what the scope is kept in.
func acceptOf(key scope.Key, enc scope.Encoding) string {
	as := ""
	if key.Metadata {
		as = ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
		if key.Name != "" {
			as = ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
		}
	}
	if enc == scope.Protobuf {
		return typeProtobuf + as + "," + typeJSON + as
	}
	return typeJSON + as
}

// sleep waits, and says whether ctx has not ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
