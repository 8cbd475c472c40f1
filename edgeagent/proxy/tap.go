package proxy

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// tap sees a copy of an answer's body, and keeps what it understands. It never disturbs the client: what it cannot keep is counted,
// and the scope is read anew.
type tap interface {
	take(p []byte)
	// between tells whether what was taken so far ends between two events of a watch.
	between() bool
	// done is called once, at the end. whole: upstream said that the body is complete.
	done(whole bool)
}

// shape is what a client asked to have objects turned into.
type shape int

const (
	plain shape = iota
	metadataOnly
	table
)

// shapeOf reads Accept: kube-apiserver takes the first it can serve, and it can serve both.
func shapeOf(h http.Header) shape {
	first, _, _ := strings.Cut(h.Get("Accept"), ",")
	switch {
	case strings.Contains(first, "as=PartialObjectMetadata"):
		return metadataOnly
	case strings.Contains(first, "as=Table"):
		return table
	}
	return plain
}

// encodingOf tells in which encoding an answer is. Not ok: in none that is kept.
func encodingOf(h http.Header) (scope.Encoding, bool) {
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	switch strings.TrimSpace(media) {
	case typeJSON:
		return scope.JSON, true
	case typeProtobuf:
		return scope.Protobuf, true
	}
	return 0, false
}

// trusted tells whether what the caller reads may be kept under its name. Upstream has taken its token; where tokens can be verified
// without upstream, this one must stand that too, or it would be answered to nobody.
func (c *call) trusted() bool {
	if c.caller.Node {
		return true
	}
	if c.caller.Name == "" || c.caller.Impersonates {
		return false
	}
	if _, ok, err := c.s.cfg.Store.Document(c.s.node(), identity.JWKSPath); err != nil || !ok {
		return true
	}
	return c.s.cfg.Authenticator.Verify(c.r.Context(), c.caller) == nil
}

// tap gives what sees the answer's body, or nil. It acts on refusals at once.
func (c *call) tap(resp *http.Response) tap {
	if c.err != nil || c.r.Method != http.MethodGet || !c.trusted() {
		return nil
	}
	if d := c.document(resp); d != nil {
		return d
	}
	if !c.req.Resourceful() || c.req.Subresource != "" || c.req.Options.Shard != "" || !c.s.keeps(c.req.Resource) {
		return nil
	}
	key, form := c.key(), shapeOf(c.r.Header)
	encoding, ok := encodingOf(resp.Header)
	switch {
	case resp.StatusCode == http.StatusForbidden:
		c.forbidden(key)
	case resp.StatusCode == http.StatusNotFound && c.req.Verb == "get":
		c.s.cfg.Store.Forget(key)
	case resp.StatusCode != http.StatusOK, form == table, !ok:
	case c.req.Verb == "get":
		return unzipped(resp, &objectTap{s: c.s, key: key, encoding: encoding, length: resp.ContentLength, asked: c.asked()})
	case c.req.Verb == "list":
		return unzipped(resp, c.s.listTap(key, encoding, c.req.Options, c.asked()))
	case c.req.Verb == "watch":
		return unzipped(resp, c.s.watchTap(c, key, encoding))
	}
	return nil
}

// key is the scope that the request reads.
func (c *call) key() scope.Key {
	key := c.req.Key(c.caller.Name)
	key.Metadata = shapeOf(c.r.Header) == metadataOnly
	return key
}

func (c *call) asked() asked { return asked{c.req.Options.ResourceVersion, c.since} }

// forbidden forgets what upstream refuses to this caller now. The refusal of one object, or of one query, says nothing of the others: a
// node may read a Secret only as long as one of its pods names it. Nor does that of a whole collection for the node, which may read its own
// pods and never all: root's `kubectl get pods -A` must not cost the node what its kubelet has read. RBAC, which decides for the others,
// knows no selectors.
func (c *call) forbidden(key scope.Key) {
	if c.caller.Node || key.Name != "" || key.Labels != "" || key.Fields != "" {
		c.s.cfg.Store.Forget(key)
		return
	}
	c.s.cfg.Store.Drop(key.Identity, key.Resource, key.Namespace)
}

// maxObject bounds an object that is kept. etcd takes no larger ones by far.
const maxObject = 16 << 20

// objectTap keeps the answer to a GET.
type objectTap struct {
	s        *Server
	key      scope.Key
	encoding scope.Encoding
	length   int64 // of the body, or -1
	asked    asked
	body     []byte
	known    string // the version, if it is the one that is kept already
	err      error
}

func (t *objectTap) take(p []byte) {
	switch {
	case t.err != nil:
	case t.body == nil && int64(len(p)) == t.length && t.unchanged(p):
	case len(t.body)+len(p) > maxObject:
		t.body, t.err = nil, wire.ErrTooLarge
	default:
		t.body = append(t.body, p...)
	}
}

// unchanged tells whether a whole body is the version that is kept: then there is nothing to keep.
func (t *objectTap) unchanged(body []byte) bool {
	item, err := wire.Object(t.encoding, "", "", body)
	if err != nil || item.Version == "" {
		return false
	}
	if info, ok := t.s.cfg.Store.Info(t.key); ok && info.Dirty == "" && info.Version == item.Version {
		t.known = strings.Clone(item.Version)
	}
	return t.known != ""
}

func (t *objectTap) between() bool { return false }

func (t *objectTap) done(whole bool) {
	if !whole {
		return
	}
	if t.known != "" {
		t.s.cfg.Store.Advance(t.key, t.known)
		return
	}
	var item scope.Item
	if t.err == nil {
		item, t.err = wire.Object(t.encoding, "", "", t.body)
	}
	if t.err != nil {
		t.s.unkept(t.key, t.err)
		return
	}
	t.s.unlessBehind(t.key, item.Version, t.asked, func() { t.s.cfg.Store.Put(t.key, item) })
}

// asked is what a client asked for, and when.
type asked struct {
	version string // resourceVersion
	since   string // the version that was kept when the request was sent, "" for none
}

// unlessBehind keeps an answer that is not older than what is kept. No event of its scope comes between.
func (s *Server) unlessBehind(key scope.Key, version string, a asked, keep func()) {
	f := s.feeds.of(key, 1) // it stays as long as its lock is needed
	defer s.feeds.leave(f)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !s.behind(key, version, a) {
		keep()
	}
}

// behind tells whether an answer is older than what is kept: because the client was content with any, and a server's cache may be behind
// another's; or because events overtook the answer on its way. A client that asked for the newest and got older than was kept already
// gets the truth: upstream was restored.
func (s *Server) behind(key scope.Key, version string, a asked) bool {
	info, _ := s.cfg.Store.Info(key)
	if older, _ := scope.Older(version, info.Version); !older || s.epoch.foreign(info) {
		return false
	}
	restored, _ := scope.Older(version, a.since)
	return a.version != "" || !restored
}

// version is the version that is kept of a scope, "" if none is.
func (s *Server) version(key scope.Key) string {
	info, _ := s.cfg.Store.Info(key)
	return info.Version
}

// unkept notes that an answer could not be kept.
func (s *Server) unkept(key scope.Key, err error) {
	reason := "Malformed"
	switch {
	case errors.Is(err, wire.ErrTruncated):
		reason = "Truncated"
	case errors.Is(err, wire.ErrTooLarge), errors.Is(err, errBudget):
		reason = "TooLarge"
	}
	s.metrics.tees.WithLabelValues(reason).Inc()
	s.log.Warn("an answer could not be kept", "resource", key.Resource.String(), "namespace", key.Namespace, "name", key.Name, "identity", key.Identity, "err", err)
}

// errBudget says that too much would have to be held in memory.
var errBudget = errors.New("more is being read than may be held in memory at once")

// errHuge is an errBudget that is the fault of this one.
var errHuge = fmt.Errorf("%w, most of it here", errBudget)

// maxHeld bounds what all taps together hold of lists that are not complete yet.
const maxHeld = 96 << 20

// budget counts bytes that are held.
type budget struct{ held atomic.Int64 }

// share is one tap's part of the budget.
type share struct {
	budget *budget
	bytes  int64
}

// add takes more of the budget.
func (s *share) add(n int) error {
	if s.budget.held.Add(int64(n)) > maxHeld {
		s.budget.held.Add(int64(-n))
		if s.bytes > maxHeld/2 {
			return errHuge
		}
		return errBudget
	}
	s.bytes += int64(n)
	return nil
}

// free gives it back.
func (s *share) free() {
	s.budget.held.Add(-s.bytes)
	s.bytes = 0
}

// unzipped puts a decompressor before a tap if the answer is compressed.
func unzipped(resp *http.Response, t tap) tap {
	switch resp.Header.Get("Content-Encoding") {
	case "":
		return t
	case "gzip":
	default:
		t.done(false)
		return nil
	}
	r, w := io.Pipe()
	z := &zipTap{to: t, in: w, ended: make(chan error, 1)}
	go func() {
		gz, err := gzip.NewReader(r)
		if err == nil {
			buf := make([]byte, 8<<10)
			var n int
			for err == nil {
				n, err = gz.Read(buf)
				if n > 0 {
					t.take(buf[:n])
				}
			}
		}
		r.CloseWithError(io.ErrClosedPipe)
		z.ended <- err
	}()
	return z
}

// zipTap decompresses on the way to another tap.
type zipTap struct {
	to    tap
	in    *io.PipeWriter
	ended chan error
}

func (z *zipTap) take(p []byte) { z.in.Write(p) } // an error is seen at the other end
func (z *zipTap) between() bool { return false }

func (z *zipTap) done(whole bool) {
	if whole {
		z.in.Close()
	} else {
		z.in.CloseWithError(io.ErrUnexpectedEOF)
	}
	err := <-z.ended
	z.to.done(whole && err == io.EOF)
}
