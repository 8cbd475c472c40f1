package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"time"

	berrors "go.etcd.io/bbolt/errors"
)

// health is what Condition and Stats say. The cache's lock guards it.
type health struct {
	failed  error     // the last write went wrong
	since   time.Time // when a write began that has not ended
	rebuilt string    // what was wrong with the file
	full    string    // what could not be taken or was given up, and why

	commits, evicted, dirtied int64
	last                      time.Duration
	fileBytes, usedBytes      int64
	objects                   int
}

// slow is how long a write may take before the cache takes no more than it must.
const slow = 2 * time.Second

func (h *health) failing() bool {
	return h.failed != nil || !h.since.IsZero() && time.Since(h.since) > slow
}

func (h *health) why() string {
	if h.failed != nil {
		return h.failed.Error()
	}
	return "the disk is slow"
}

// fail notes how the last write went, and logs it if that is news.
func (h *health) fail(log *slog.Logger, err error) {
	switch {
	case err != nil && (h.failed == nil || h.failed.Error() != err.Error()):
		log.Error("the cache cannot be written; it goes on in memory", "error", err)
	case err == nil && h.failed != nil:
		log.Info("the cache can be written again")
	}
	h.failed = err
}

func (h *health) refused(why string) { h.full = "a list was not cached: " + why }

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// Condition sums up whether the cache is well: one of the Reasons, and a sentence.
func (c *Cache) Condition() (reason, message string) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	dirty := "" // the first one: a sentence that changes all the time would be reported all the time
	for _, e := range c.scopes {
		if e.info.Dirty != "" {
			if why := fmt.Sprintf("%s of %s: %s", e.info.Key.Resource, e.info.Key.Identity, e.info.Dirty); dirty == "" || why < dirty {
				dirty = why
			}
		}
	}
	h := &c.health
	switch {
	case isFull(h.failed):
		return ReasonCacheDiskFull, fmt.Sprintf("%v; what upstream sends is kept in memory, up to %d KiB, and is lost if the agent ends: make room on the disk", h.failed, c.o.MaxPending>>12)
	case errors.Is(h.failed, berrors.ErrMaxSizeReached):
		return ReasonCacheFull, fmt.Sprintf("the cache may have %d MiB, and what may not be given up fills it: raise its size", c.o.MaxBytes>>20)
	case h.failed != nil:
		return ReasonCacheWriteFailed, h.failed.Error()
	case dirty != "":
		return ReasonCacheBehind, "what is cached is older than what upstream sent: " + dirty
	case h.rebuilt != "":
		return ReasonCacheRebuilt, h.rebuilt
	case h.full != "":
		return ReasonCacheFull, h.full
	default:
		return ReasonCached, fmt.Sprintf("%d scopes, %d KiB", len(c.scopes), h.usedBytes>>10)
	}
}

// Stats says how large things are.
func (c *Cache) Stats() Stats {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := Stats{
		Scopes: len(c.scopes), Objects: c.health.objects, Documents: len(c.documents.index), Tokens: len(c.tokens.index),
		Queued: map[string]int{}, Dropped: map[string]int{},
		FileBytes: c.health.fileBytes, UsedBytes: c.health.usedBytes, PendingBytes: c.bytes + c.quiet, QuietBytes: c.quiet,
		Commits: c.health.commits, Evicted: c.health.evicted, Dirtied: c.health.dirtied, LastCommit: c.health.last,
	}
	for bucket, keys := range c.outbox.index {
		s.Queued[bucket] = len(keys)
	}
	for bucket, n := range c.outbox.dropped {
		s.Dropped[bucket] = n
	}
	return s
}
