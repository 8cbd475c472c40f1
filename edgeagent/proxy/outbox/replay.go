package outbox

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Send asks upstream as the node. The error is for answers that never came.
type Send func(*http.Request) (*http.Response, error)

const (
	// firstWait and longestWait bound how long a lane waits after upstream was too busy and did not say how long.
	firstWait, longestWait = time.Second, time.Minute
	// timeout bounds one request.
	timeout = 30 * time.Second
	manager = "holdfast-agent"
)

// Replay sends what waits to upstream: the node's status, then the pods', then events, one at a time. It returns nil once nothing
// waits, or the error of a Send that got no answer: the link is down again, and what is left waits for the next time. What
// upstream cannot take right now is tried again after the others.
func (o *Outbox) Replay(ctx context.Context, send Send) error {
	wait := firstWait
	for {
		left, err := o.tryStatuses(ctx, send)
		if err != nil {
			return err
		}
		more, err := o.tryEvents(ctx, send)
		if err != nil {
			return err
		}
		if left+more == 0 {
			return nil
		}
		if err := o.pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, longestWait)
	}
}

// tryStatuses tries every status once and gives how many are left.
func (o *Outbox) tryStatuses(ctx context.Context, send Send) (left int, err error) {
	waiting, _ := o.Statuses(0)
	slices.SortFunc(waiting, func(a, b Status) int {
		return cmp.Or(strings.Compare(a.Resource, b.Resource), cmp.Compare(a.Change, b.Change))
	})
	for _, s := range waiting {
		a, err := o.replayStatus(ctx, send, s.Ref)
		if err == nil && a.later() {
			left++
			err = o.heed(ctx, a)
		}
		if err != nil {
			return 0, fmt.Errorf("replay status of %s: %w", s.Ref, err)
		}
	}
	return left, nil
}

// replayStatus sends one status, while nobody else writes it.
func (o *Outbox) replayStatus(ctx context.Context, send Send, ref Ref) (answer, error) {
	defer o.Lock(ref)()
	s, ok := o.Status(ref)
	if !ok {
		return answer{}, nil
	}
	body, err := s.body()
	if err != nil {
		return answer{}, err
	}
	a, err := once(ctx, send, http.MethodPatch, ref.StatusPath(), "application/strategic-merge-patch+json", body)
	if err == nil && !a.later() {
		o.count(a, "status of "+ref.String())
		o.Superseded(ref)
	}
	return a, err
}

// body gives the patch with the UID of the object that it is for.
func (s Status) body() ([]byte, error) {
	var patch map[string]any
	if err := json.Unmarshal(s.Patch, &patch); err != nil {
		return nil, fmt.Errorf("replay status of %s: %w", s.Ref, err)
	}
	metadata, _ := patch["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
	}
	metadata["uid"] = s.UID
	patch["metadata"] = metadata
	return json.Marshal(patch)
}

// tryEvents tries every event once and gives how many are left.
func (o *Outbox) tryEvents(ctx context.Context, send Send) (left int, err error) {
	// All at once: nobody may hold the store open while upstream takes its time.
	var waiting []scope.Queued
	for queued, err := range o.cfg.Store.Pending(EventsBucket) {
		if err != nil {
			return 0, fmt.Errorf("read outbox: %w", err)
		}
		waiting = append(waiting, queued)
	}
	for _, queued := range waiting {
		a, err := o.replayEvent(ctx, send, queued)
		if err == nil && a.later() {
			left++
			err = o.heed(ctx, a)
		}
		if err != nil {
			return 0, fmt.Errorf("replay event %s: %w", queued.Key, err)
		}
		if a.later() {
			continue
		}
		o.count(a, "event "+queued.Key)
		o.cfg.Store.Done(EventsBucket, queued.Key, queued.Seq)
	}
	return left, nil
}

// replayEvent posts an event. One that upstream has already is told how often it has happened since.
func (o *Outbox) replayEvent(ctx context.Context, send Send, queued scope.Queued) (answer, error) {
	var e Event
	var event map[string]any
	err := json.Unmarshal(queued.Value, &e)
	if err == nil {
		err = json.Unmarshal(e.Object, &event)
	}
	if err != nil {
		return answer{code: http.StatusUnprocessableEntity, why: err.Error()}, nil
	}
	a, err := once(ctx, send, http.MethodPost, e.Path, "application/json", e.Object)
	if err != nil || a.code != http.StatusConflict {
		return a, err
	}
	patch := map[string]any{}
	for _, field := range []string{"count", "lastTimestamp", "message", "series", "deprecatedCount", "deprecatedLastTimestamp", "note"} {
		if value, ok := event[field]; ok {
			patch[field] = value
		}
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return answer{}, err
	}
	name := strings.TrimPrefix(queued.Key, e.Path+"/")
	return once(ctx, send, http.MethodPatch, e.Path+"/"+name, "application/merge-patch+json", body)
}

// answer is what upstream said to one entry.
type answer struct {
	code  int
	after time.Duration
	why   string
}

// later tells whether the same request may succeed later. 401 counts: credentials are renewed. 403 does not: a pod that moved to
// another node is no longer ours to write.
func (a answer) later() bool {
	return a.code == http.StatusTooManyRequests || a.code >= 500 || a.code == http.StatusUnauthorized
}

// heed waits if upstream said that it is too busy, and for how long: that is meant for all requests, not for one.
func (o *Outbox) heed(ctx context.Context, a answer) error {
	if a.after == 0 {
		return nil
	}
	o.cfg.Log.Info("upstream is too busy for what was written offline", "code", a.code, "wait", a.after)
	return o.pause(ctx, a.after)
}

// pause waits for a time and up to half as much again.
func (o *Outbox) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d + time.Duration(o.cfg.Rand()*float64(d)/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func once(ctx context.Context, send Send, method, path, contentType string, body []byte) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, path+"?fieldManager="+manager, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", "application/json")
	resp, err := send(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return answer{}, err
	}
	a := answer{code: resp.StatusCode}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		a.after = min(time.Duration(seconds)*time.Second, 10*longestWait)
	}
	var status struct {
		Message string `json:"message"`
	}
	if resp.StatusCode >= 300 && (json.Unmarshal(raw, &status) != nil || status.Message == "") {
		status.Message = http.StatusText(resp.StatusCode)
	}
	a.why = status.Message
	return a, nil
}
