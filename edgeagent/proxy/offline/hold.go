package offline

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/rewrite"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// hold keeps a watch open until its time is over, its client leaves, or the link is back. It has one timer and no goroutine.
func (s *stream) hold(ctx context.Context, back <-chan struct{}, lasts time.Duration) error {
	end := time.Now().Add(lasts)
	timer := time.NewTimer(s.pause(end))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-back:
			return s.linger(ctx, timer, end)
		case <-s.local.statuses:
			if err := s.sendStatuses(); err != nil {
				return s.ended(err)
			}
		case <-s.local.moved:
			if err := s.sendMoved(); err != nil {
				return s.ended(err)
			}
		case <-timer.C:
			if !time.Now().Before(end) {
				return nil
			}
			if err := s.tick(); err != nil {
				return s.ended(err)
			}
			timer.Reset(s.pause(end))
		}
	}
}

// pause is how long a silent watch waits: until its next bookmark, or its end.
func (s *stream) pause(end time.Time) time.Duration {
	left := time.Until(end)
	if !s.bookmarks {
		return left
	}
	between := s.h.cfg.Bookmarks
	return min(left, between+time.Duration((s.h.cfg.Rand()-0.5)*0.2*float64(between)))
}

// linger ends the watch, but not all watches at once: each client asks upstream next.
func (s *stream) linger(ctx context.Context, timer *time.Timer, end time.Time) error {
	wait := time.Duration(s.h.cfg.Rand() * float64(s.h.cfg.Spread))
	timer.Reset(min(wait, max(0, time.Until(end))))
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

// ended is for a client that left while it was written to: that is no error of ours. What cannot be read is.
func (s *stream) ended(err error) error {
	s.h.cfg.Log.Debug("a watch ended", "scope", s.scope, "err", err)
	return nil
}

// tick sends a bookmark: the client is up to date, as far as anyone here knows.
func (s *stream) tick() error {
	frame, err := s.q.renderer.Bookmark(nil, s.version, false)
	if err != nil {
		return err
	}
	if err := s.write(frame); err != nil {
		return err
	}
	return s.flush()
}

// sendStatuses sends the objects whose status was written here since the last time.
func (s *stream) sendStatuses() error {
	var buf []byte
	for _, status := range s.local.takeStatuses() {
		if status.Resource != s.q.view.statuses {
			continue
		}
		item, ok, err := s.h.cfg.Store.Get(s.scope, status.Namespace, status.Name)
		if err != nil {
			return err
		}
		if !ok || item.UID != status.UID {
			continue
		}
		if buf, err = s.change(buf, item, wire.Modified); err != nil {
			return err
		}
	}
	return s.send(buf)
}

// sendMoved sends the EndpointSlices that look different now. Informers drop a MODIFIED whose resourceVersion is the one they
// have, so each goes and comes back.
func (s *stream) sendMoved() error {
	changes := s.local.takeMoves()
	if len(changes) == 0 {
		return nil
	}
	var buf []byte
	err := s.h.cfg.Store.Read(s.scope, func(_ scope.Info, items iter.Seq2[scope.Item, error]) error {
		for item, err := range items {
			if err == nil && slices.ContainsFunc(changes, func(c rewrite.Change) bool { return rewrite.Mentions(item, c) }) {
				buf, err = s.change(buf, item, wire.Deleted, wire.Added)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.send(buf)
}

// change appends the frames of one object that changed here.
func (s *stream) change(buf []byte, item scope.Item, events ...string) ([]byte, error) {
	item, selected, err := s.q.take(item)
	if err != nil || !selected {
		return buf, err
	}
	for _, event := range events {
		if buf, err = s.q.renderer.Frame(buf, event, item); err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// send sends events together with a bookmark: the objects have the resourceVersion they always had, which may be far behind what
// the client knows, and a client resumes from the last one it was told.
func (s *stream) send(buf []byte) error {
	if len(buf) == 0 {
		return nil
	}
	if s.bookmarks {
		var err error
		if buf, err = s.q.renderer.Bookmark(buf, s.version, false); err != nil {
			return err
		}
	}
	if err := s.write(buf); err != nil {
		return err
	}
	return s.flush()
}
