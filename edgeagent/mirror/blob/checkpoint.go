package blob

import (
	"encoding/json"
	"fmt"
	"time"
)

// checkpoint flushes what was written so far, while more is being written, and then has the journal count on it. So a power cut costs
// at most the bytes since the last one, and the last flush of a large blob is short.
type checkpoint struct {
	offset  int64
	flushed error // the file; nothing after the last checkpoint is certain then
	noted   error // the journal; the one before stays true
	done    chan struct{}
}

// keep sees to it that not too much can be lost. w.mu is held.
func (w *Writer) keep() {
	if !w.journaled && w.offset >= w.s.journalFrom {
		w.firstJournal()
	}
	ahead := w.offset - max(w.durable, w.tried)
	if w.pending != nil || ahead < w.s.checkpointBytes && (ahead < w.s.journalFrom || time.Since(w.since) < w.s.checkpointEvery) {
		return
	}
	w.startCheckpoint()
}

// firstJournal costs no flush: it only says in which boot the file was begun, so that all of it is believed after a kill.
func (w *Writer) firstJournal() {
	if err := w.writeJournal(journal{Digest: w.digest, Size: w.size, Boot: w.s.boot}, false); err != nil {
		w.s.log.Warn("a download would begin anew after a restart: its journal cannot be written", "digest", w.digest, "error", diskError(err))
	}
	w.journaled = true // not tried again: the next checkpoint will
}

func (w *Writer) startCheckpoint() {
	w.since, w.tried = time.Now(), w.offset
	state, err := stateOf(w.hash)
	if err != nil {
		w.s.log.Warn("a download would begin anew after a power cut", "digest", w.digest, "error", err)
		return
	}
	j := journal{Digest: w.digest, Size: w.size, Boot: w.s.boot, Offset: w.offset, State: state, Cut: w.cut}
	c := &checkpoint{offset: w.offset, done: make(chan struct{})}
	w.pending = c
	f := w.f
	go func() {
		defer close(c.done)
		if c.flushed = w.s.disk.sync(f); c.flushed == nil {
			c.noted = w.writeJournal(j, true)
		}
	}()
}

func (w *Writer) writeJournal(j journal, last bool) error {
	data, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return w.s.disk.replace(w.s.partialPath(w.digest)+journalSuffix, data, last)
}

// collectCheckpoint takes the result of a checkpoint that has ended, or waits until it has. An error has ended the writer. w.mu is held.
func (w *Writer) collectCheckpoint(wait bool) error {
	c := w.pending
	if c == nil {
		return nil
	}
	if !wait {
		select {
		case <-c.done:
		default:
			return nil
		}
	}
	<-c.done
	w.pending = nil
	switch {
	case c.flushed != nil:
		return w.rollBack(c.flushed)
	case c.noted != nil:
		w.s.log.Warn("a power cut would cost more of a download than it should: its journal cannot be written", "digest", w.digest, "error", diskError(c.noted))
	default:
		w.durable, w.journaled = c.offset, true
	}
	return nil
}

// awaitCheckpoint only waits: what it was about is being thrown away.
func (w *Writer) awaitCheckpoint() {
	if w.pending != nil {
		<-w.pending.done
		w.pending = nil
	}
}
