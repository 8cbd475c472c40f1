package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk is a store in memory.
type disk struct {
	mu    sync.Mutex
	queue map[string]scope.Queued // by bucket and key
	seq   uint64
	full  error
}

func newDisk() *disk { return &disk{queue: map[string]scope.Queued{}} }

func (d *disk) Enqueue(_ context.Context, bucket, key string, value []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full != nil {
		return d.full
	}
	d.seq++
	d.queue[bucket+" "+key] = scope.Queued{Key: key, Value: value, Seq: d.seq}
	return nil
}

func (d *disk) Pending(bucket string) iter.Seq2[scope.Queued, error] {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []scope.Queued
	for k, q := range d.queue {
		if strings.HasPrefix(k, bucket+" ") {
			all = append(all, q)
		}
	}
	slices.SortFunc(all, func(a, b scope.Queued) int { return int(a.Seq) - int(b.Seq) })
	return func(yield func(scope.Queued, error) bool) {
		for _, q := range all {
			if !yield(q, nil) {
				return
			}
		}
	}
}

func (d *disk) Waiting(bucket, key string) (scope.Queued, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q, ok := d.queue[bucket+" "+key]
	return q, ok, nil
}

func (d *disk) Done(bucket, key string, seq uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.queue[bucket+" "+key].Seq == seq {
		delete(d.queue, bucket+" "+key)
	}
}

func (d *disk) keys() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.queue))
}

func open(t *testing.T, d *disk) *outbox.Outbox {
	t.Helper()
	o, err := outbox.New(outbox.Config{Store: d, Rand: func() float64 { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func put(t *testing.T, o *outbox.Outbox, ref outbox.Ref, patch string) {
	t.Helper()
	unlock := o.Lock(ref)
	defer unlock()
	if err := o.Put(t.Context(), outbox.Status{Ref: ref, UID: "uid-" + ref.Name, Patch: []byte(patch)}, true); err != nil {
		t.Fatal(err)
	}
}

var (
	node = outbox.Ref{Resource: "nodes", Name: "n1"}
	web  = outbox.Ref{Resource: "pods", Namespace: "default", Name: "web"}
	dns  = outbox.Ref{Resource: "pods", Namespace: "kube-system", Name: "dns"}
)

// upstream answers with codes in turn, for each path; "" is for all others, and then 200.
type upstream struct {
	mu    sync.Mutex
	codes map[string][]int
	after string
	asked []string
	down  bool
}

var errDown = errors.New("no link")

func (u *upstream) send(r *http.Request) (*http.Response, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.down {
		return nil, errDown
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	u.asked = append(u.asked, fmt.Sprintf("%s %s %s %s", r.Method, r.URL.Path, r.Header.Get("Content-Type"), body))
	code := 200
	if codes := u.codes[r.URL.Path]; len(codes) > 0 {
		code, u.codes[r.URL.Path] = codes[0], codes[1:]
	}
	resp := &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"message":"because"}`))}
	if code == 429 {
		resp.Header.Set("Retry-After", u.after)
	}
	return resp, nil
}

func TestReplayInLanes(t *testing.T) {
	d := newDisk()
	o := open(t, d)
	put(t, o, web, `{"status":{"phase":"Failed"}}`)
	put(t, o, node, `{"metadata":{"labels":{"a":"b"}},"status":{"nodeInfo":{"bootID":"2"}}}`)
	put(t, o, web, `{"status":{"phase":"Running"}}`)
	if err := o.PutEvent(t.Context(), "e1", outbox.Event{Path: "/api/v1/namespaces/default/events", Object: []byte(`{"metadata":{"name":"e1"},"count":3}`)}); err != nil {
		t.Fatal(err)
	}
	// What was promised is there after a power cut.
	o = open(t, d)
	if s, ok := o.Status(web); !ok || string(s.Patch) != `{"status":{"phase":"Running"}}` || s.UID != "uid-web" {
		t.Fatalf("after a restart: %+v", s)
	}
	u := &upstream{codes: map[string][]int{"/api/v1/namespaces/default/events": {409}}}
	if err := o.Replay(t.Context(), u.send); err != nil {
		t.Fatal(err)
	}
	const strategic = "application/strategic-merge-patch+json"
	want := []string{
		`PATCH /api/v1/nodes/n1/status ` + strategic + ` {"metadata":{"labels":{"a":"b"},"uid":"uid-n1"},"status":{"nodeInfo":{"bootID":"2"}}}`,
		`PATCH /api/v1/namespaces/default/pods/web/status ` + strategic + ` {"metadata":{"uid":"uid-web"},"status":{"phase":"Running"}}`,
		`POST /api/v1/namespaces/default/events application/json {"metadata":{"name":"e1"},"count":3}`,
		`PATCH /api/v1/namespaces/default/events/e1 application/merge-patch+json {"count":3}`,
	}
	if !slices.Equal(u.asked, want) {
		t.Fatalf("asked\n%s\nwant\n%s", strings.Join(u.asked, "\n"), strings.Join(want, "\n"))
	}
	if left := d.keys(); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
	if r := o.Report(); r.Replayed != 3 || r.Dropped != 0 || r.Pending != 0 {
		t.Fatalf("report: %+v", r)
	}
}

// TestRefusedForGood: what upstream does not take is reported, and does not hold up the rest.
func TestRefusedForGood(t *testing.T) {
	for _, code := range []int{404, 409, 422, 403, 400} {
		o := open(t, newDisk())
		put(t, o, web, `{}`)
		put(t, o, dns, `{}`)
		u := &upstream{codes: map[string][]int{web.StatusPath(): {code}}}
		if err := o.Replay(t.Context(), u.send); err != nil {
			t.Fatal(err)
		}
		r := o.Report()
		if r.Replayed != 1 || r.Dropped != 1 || len(r.Lost) != 1 || r.Lost[0].What != "status of pods/default/web" || r.Lost[0].Why != fmt.Sprintf("%d: because", code) {
			t.Errorf("%d: report %+v", code, r)
		}
	}
}

// TestBusyUpstream: 429 and 5xx are tried again, after as long as upstream says, and others first.
func TestBusyUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk()
		o := open(t, d)
		put(t, o, node, `{}`)
		put(t, o, web, `{}`)
		put(t, o, dns, `{}`)
		u := &upstream{after: "7", codes: map[string][]int{node.StatusPath(): {429}, web.StatusPath(): {500, 503}}}
		start := time.Now()
		if err := o.Replay(t.Context(), u.send); err != nil {
			t.Fatal(err)
		}
		// 7 s for the 429, then 1 s and 2 s between the rounds.
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
		var order []string
		for _, a := range u.asked {
			order = append(order, strings.Fields(a)[1])
		}
		want := []string{node.StatusPath(), web.StatusPath(), dns.StatusPath(), node.StatusPath(), web.StatusPath(), web.StatusPath()}
		if !slices.Equal(order, want) {
			t.Errorf("order %v, want %v", order, want)
		}
		if r := o.Report(); r.Replayed != 3 || r.Dropped != 0 || len(d.keys()) != 0 {
			t.Errorf("report %+v, left %v", r, d.keys())
		}
	})
}

func TestLinkLostAgain(t *testing.T) {
	d := newDisk()
	o := open(t, d)
	put(t, o, web, `{}`)
	u := &upstream{down: true}
	if err := o.Replay(t.Context(), u.send); !errors.Is(err, errDown) {
		t.Fatalf("got %v", err)
	}
	if r := o.Report(); r.Pending != 1 || len(d.keys()) != 1 {
		t.Fatalf("report %+v, left %v", r, d.keys())
	}
	u.down = false
	if err := o.Replay(t.Context(), u.send); err != nil || len(d.keys()) != 0 {
		t.Fatalf("got %v, left %v", err, d.keys())
	}
}

// TestSuperseded: a status that the kubelet tells upstream itself is newer than what waits.
func TestSuperseded(t *testing.T) {
	d := newDisk()
	o := open(t, d)
	put(t, o, web, `{}`)
	unlock := o.Lock(web)
	replayed := make(chan error, 1)
	u := &upstream{}
	go func() { replayed <- o.Replay(t.Context(), u.send) }()
	o.Superseded(web)
	unlock()
	if err := <-replayed; err != nil || len(u.asked) != 0 || len(d.keys()) != 0 {
		t.Fatalf("got %v, asked %v, left %v", err, u.asked, d.keys())
	}
}

func TestNotDurable(t *testing.T) {
	d := newDisk()
	o := open(t, d)
	d.full = errors.New("disk full")
	if err := o.Put(t.Context(), outbox.Status{Ref: web, Patch: []byte(`{}`)}, true); !errors.Is(err, d.full) {
		t.Fatalf("got %v", err)
	}
	if _, ok := o.Status(web); ok {
		t.Fatal("a status that is not on disk is shown")
	}
	if err := o.PutEvent(t.Context(), "e", outbox.Event{Path: "/p", Object: []byte(`{}`)}); !errors.Is(err, d.full) {
		t.Fatalf("got %v", err)
	}
	// A heartbeat needs no disk, and is replayed all the same.
	if err := o.Put(t.Context(), outbox.Status{Ref: node, UID: "u", Patch: []byte(`{}`)}, false); err != nil {
		t.Fatal(err)
	}
	u := &upstream{}
	if err := o.Replay(t.Context(), u.send); err != nil || len(u.asked) != 1 {
		t.Fatalf("got %v, asked %v", err, u.asked)
	}
}

func TestUnreadableOutbox(t *testing.T) {
	d := newDisk()
	for key, value := range map[string]string{"pods/default/web": "garbage", "nonsense": "{}", "nodes/n1": `{"uid":"u","patch":{}}`} {
		if err := d.Enqueue(t.Context(), outbox.StatusBucket, key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	o := open(t, d)
	if _, ok := o.Status(node); !ok {
		t.Error("what can be read is lost, too")
	}
	if r := o.Report(); r.Dropped != 2 || r.Pending != 1 || len(d.keys()) != 1 {
		t.Errorf("report %+v, left %v", r, d.keys())
	}
}

func TestOnlyHeartbeats(t *testing.T) {
	base := `{"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"1","reason":"r"}],"phase":"x"}}`
	for final, only := range map[string]bool{
		base: true,
		`{"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2","reason":"r"}],"phase":"x"}}`:  true,
		`{"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2"}],"phase":"x"}}`:               false,
		`{"status":{"conditions":[{"type":"Ready","status":"False","lastHeartbeatTime":"2","reason":"r"}],"phase":"x"}}`: false,
		`{"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"2","reason":"r"}],"phase":"y"}}`:  false,
		`{"status":{"conditions":[],"phase":"x"}}`: false,
		`{"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":"1","reason":"r"},{"type":"New","status":"True"}],"phase":"x"}}`: false,
	} {
		b, f := decode(t, []byte(base)), decode(t, []byte(final))
		if got := outbox.Only("nodes", b, outbox.Diff("nodes", b, f)); got != only {
			t.Errorf("%s: got %v", final, got)
		}
	}
}

// TestCondition: what waits is no fault, what was lost is, for a day.
func TestCondition(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	o, err := outbox.New(outbox.Config{Store: newDisk(), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	check := func(status condition.Status, reason, message string) {
		t.Helper()
		if c := o.Condition(); c.Type != condition.WritesReplayed || c.Status != status || c.Reason != reason || c.Message != message {
			t.Errorf("got %+v", c)
		}
	}
	check(condition.True, condition.ReasonReplayed, "nothing waits to be sent upstream")
	put(t, o, web, `{}`)
	check(condition.True, condition.ReasonWritesWaiting, "1 statuses and 0 events were written while offline and wait for the link")
	u := &upstream{codes: map[string][]int{web.StatusPath(): {404}}}
	if err := o.Replay(t.Context(), u.send); err != nil {
		t.Fatal(err)
	}
	check(condition.False, condition.ReasonWritesLost, "upstream did not take what was written while offline: status of pods/default/web: 404: because")
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(o.Collector())
	families, err := registry.Gather()
	if err != nil || len(families) != 3 || families[0].GetName() != "holdfast_proxy_outbox_dropped_total" || families[0].GetMetric()[0].GetCounter().GetValue() != 1 {
		t.Errorf("metrics: %v, %v", families, err)
	}
	now = now.Add(25 * time.Hour)
	check(condition.True, condition.ReasonReplayed, "nothing waits to be sent upstream")
}
