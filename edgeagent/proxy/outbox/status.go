package outbox

import (
	"context"
	"encoding/json"
	"fmt"
)

// Status gives what waits for an object, if anything does.
func (o *Outbox) Status(ref Ref) (Status, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s, ok := o.statuses[ref]
	return s, ok
}

// Statuses gives what waits and was written after a change; 0 for all. The newest change is given too.
func (o *Outbox) Statuses(after uint64) ([]Status, uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []Status
	for _, s := range o.statuses {
		if s.Change > after {
			out = append(out, s)
		}
	}
	return out, o.change
}

// Changed gives a channel that is closed at the next change of any status.
func (o *Outbox) Changed() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.changed
}

// Lock keeps other writers of an object's status away until unlock is called: read, merge and Put belong together, and so do
// sending a status upstream and Superseded.
func (o *Outbox) Lock(ref Ref) (unlock func()) {
	o.mu.Lock()
	l := o.locks[ref]
	if l == nil {
		l = &lock{}
		o.locks[ref] = l
	}
	l.waiting++
	o.mu.Unlock()
	l.mu.Lock()
	return func() {
		l.mu.Unlock()
		o.mu.Lock()
		defer o.mu.Unlock()
		if l.waiting--; l.waiting == 0 {
			delete(o.locks, ref)
		}
	}
}

// Put keeps a status, in place of what waited for the object. If it is durable it is on disk when Put returns nil; if not, it
// only lives as long as the process does. The caller holds the object's Lock. After an error nothing has changed that anyone sees.
func (o *Outbox) Put(ctx context.Context, s Status, durable bool) error {
	s.Written = o.cfg.Now()
	if durable {
		value, err := json.Marshal(stored{UID: s.UID, Patch: s.Patch, Written: s.Written})
		if err != nil {
			return fmt.Errorf("keep status of %s: %w", s.Ref, err)
		}
		if err := o.cfg.Store.Enqueue(ctx, StatusBucket, s.Ref.String(), value); err != nil {
			return fmt.Errorf("keep status of %s: %w", s.Ref, err)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.change++
	s.Change = o.change
	o.statuses[s.Ref] = s
	close(o.changed)
	o.changed = make(chan struct{})
	return nil
}

// Superseded forgets what waits for an object, because its writer has just told upstream itself: what waits is older. The
// caller holds the object's Lock.
func (o *Outbox) Superseded(ref Ref) {
	if _, ok := o.Status(ref); !ok {
		return
	}
	queued, ok, err := o.cfg.Store.Waiting(StatusBucket, ref.String())
	if err != nil {
		o.cfg.Log.Warn("forget superseded status", "kind", ref.Resource, "namespace", ref.Namespace, "name", ref.Name, "err", err)
		return
	}
	if ok {
		o.cfg.Store.Done(StatusBucket, ref.String(), queued.Seq)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.statuses, ref)
}
