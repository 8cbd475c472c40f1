package offline

import (
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

const (
	// shortestWatch is how long a watch lasts if its client does not say; up to twice that, as in kube-apiserver.
	shortestWatch = 30 * time.Minute
	// writeTimeout is how long a client may take for what it is sent at once: also a whole list, because the cache's file cannot
	// reuse what is still being read.
	writeTimeout = time.Minute
)

// watch answers a WATCH. What happens upstream cannot be known, so it is silent but for bookmarks, and for what changes here: the
// statuses that are written offline, and what follows from the pods' new addresses.
func (h *Handler) watch(w http.ResponseWriter, r *http.Request, req request.Request, caller Caller) error {
	key := keyOf(r, req, caller)
	info, ok := h.cover(key)
	if !ok {
		return h.uncached(req, caller)
	}
	back := h.back()
	s := &stream{h: h, w: w, control: http.NewResponseController(w), bookmarks: req.Options.AllowBookmarks}
	if err := s.begin(r, req, caller, key, info.Key); err != nil {
		return err
	}
	if s.over {
		return nil
	}
	defer s.flush()
	return s.hold(r.Context(), back, h.deadline(req.Options.Timeout))
}

// deadline gives how long a watch lasts.
func (h *Handler) deadline(asked time.Duration) time.Duration {
	if asked > 0 {
		return asked
	}
	return shortestWatch + time.Duration(h.cfg.Rand()*float64(shortestWatch))
}

// stream is one watch that is being answered. Between events it holds no buffer.
type stream struct {
	h         *Handler
	w         http.ResponseWriter
	control   *http.ResponseController
	q         *query
	scope     scope.Key
	bookmarks bool
	// version is what the client knows once it has read everything: the scope's, or its own if that is newer.
	version string
	// over: the answer is complete and there is nothing to wait for.
	over  bool
	local local
	// writing: something was written since the last flush, and the client must take it in time.
	writing bool
}

// begin sends the head of the answer and what the watch begins with.
func (s *stream) begin(r *http.Request, req request.Request, caller Caller, key, from scope.Key) error {
	// From here on nothing that changes is missed; what is seen twice is the same.
	s.local.listen(s.h, r, req, caller, s.bookmarks)
	begun := false
	err := s.h.cfg.Store.Read(from, func(info scope.Info, items iter.Seq2[scope.Item, error]) (err error) {
		s.scope, s.version = info.Key, info.Version
		o := s.h.known.least(r, req, info)
		initial := o.InitialEvents() || req.Options.ResourceVersion == "" || req.Options.ResourceVersion == "0"
		if initial {
			if err := checkVersion(o, info.Version); err != nil {
				return err
			}
		}
		if s.q, err = s.h.query(r, req, caller, key, info, items); err != nil {
			return err
		}
		begun = true
		s.head(info)
		if initial {
			return s.initial(o, items)
		}
		return s.resume(o, info)
	})
	if err != nil && begun {
		return s.h.cutOff(req, err)
	}
	return err
}

func (s *stream) head(info scope.Info) {
	s.h.age(s.w, info.Read)
	s.w.Header().Set("Content-Type", s.q.renderer.Format.ContentType())
	s.w.WriteHeader(http.StatusOK)
}

// initial sends all objects, and the bookmark that says that they were all.
func (s *stream) initial(o request.Options, items iter.Seq2[scope.Item, error]) error {
	var buf []byte
	for item, err := range s.q.items(items) {
		if err != nil {
			return err
		}
		if buf, err = s.q.renderer.Frame(buf[:0], wire.Added, item); err != nil {
			return err
		}
		if err := s.write(buf); err != nil {
			return err
		}
	}
	s.local.caughtUp()
	if o.AllowBookmarks && o.InitialEvents() {
		buf, err := s.q.renderer.Bookmark(buf[:0], s.version, true)
		if err != nil {
			return err
		}
		if err := s.write(buf); err != nil {
			return err
		}
	}
	return s.flush()
}

// resume goes on from the version that the client knows. Only the newest state is kept: who knows an older one must list again.
func (s *stream) resume(o request.Options, info scope.Info) error {
	behind, ok := scope.Older(o.ResourceVersion, info.Version)
	if o.ResourceVersion != info.Version && (behind || !ok) {
		s.over = true
		frame := wire.AppendErrorFrame(nil, s.q.renderer.Format.Encoding, wire.Status{
			Code: http.StatusGone, Reason: "Expired",
			Message: fmt.Sprintf("too old resource version: %s (%s)", o.ResourceVersion, info.Version),
		})
		if err := s.write(frame); err != nil {
			return err
		}
	} else {
		if o.ResourceVersion != info.Version {
			s.local.mute()
		}
		s.version = o.ResourceVersion
	}
	return s.flush()
}

// write sends bytes to a client that has writeTimeout to take all until the next flush.
func (s *stream) write(p []byte) error {
	if !s.writing {
		s.writing = true
		// A recorder in a test has no deadlines; every server's writer has.
		_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	_, err := s.w.Write(p)
	return err
}

// flush sees that what was written leaves. After that the client may take as long as it likes: there is nothing more to take.
func (s *stream) flush() error {
	err := s.control.Flush()
	s.writing = false
	_ = s.control.SetWriteDeadline(time.Time{})
	return err
}
