package outbox

import (
	"context"
	"encoding/json"
	"fmt"
)

// Event is an event that was posted while offline.
type Event struct {
	// Path is the collection it was posted to: "/api/v1/namespaces/default/events".
	Path string `json:"path"`
	// Object is the event as JSON, with its name and namespace.
	Object json.RawMessage `json:"object"`
}

// eventKey files events by collection and name, so that a later version takes an earlier one's place.
func eventKey(path, name string) string { return path + "/" + name }

// PutEvent keeps an event; it is on disk when PutEvent returns nil. If there are too many the oldest goes.
func (o *Outbox) PutEvent(ctx context.Context, name string, e Event) error {
	value, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("keep event %s: %w", name, err)
	}
	if err := o.cfg.Store.Enqueue(ctx, EventsBucket, eventKey(e.Path, name), value); err != nil {
		return fmt.Errorf("keep event %s: %w", name, err)
	}
	return nil
}

// Event gives an event that waits.
func (o *Outbox) Event(path, name string) (Event, bool, error) {
	queued, ok, err := o.cfg.Store.Waiting(EventsBucket, eventKey(path, name))
	if err != nil || !ok {
		return Event{}, false, err
	}
	var e Event
	if err := json.Unmarshal(queued.Value, &e); err != nil {
		return Event{}, false, fmt.Errorf("read event %s: %w", name, err)
	}
	return e, true, nil
}
