package uplink_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/edgeagent/uplink"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type apiError string

func (e apiError) Error() string        { return "answer: " + string(e) }
func (e apiError) StableReason() string { return string(e) }

// api is an API server with one EdgeNode.
type api struct {
	mu    sync.Mutex
	err   error
	gets  int
	sent  []status
	times []time.Time
}

type status struct {
	ObservedGeneration int
	Revision, Pool     string
	LastReportTime     time.Time
	Conditions         []struct{ Type, Status, Reason, Message, LastTransitionTime string }
}

func (a *api) Get(_ context.Context, path string, into any) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gets++
	if a.err != nil {
		return a.err
	}
	if path != "/apis/fleet.holdfast.dev/v1alpha1/edgenodes/n1" {
		return errors.New("odd path " + path)
	}
	return json.Unmarshal([]byte(`{"metadata":{"generation":7}}`), into)
}

func (a *api) Apply(_ context.Context, path, manager string, check bool, object any) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	if path != "/apis/fleet.holdfast.dev/v1alpha1/edgenodes/n1/status" || manager != "holdfast-agent" || check {
		return errors.New("odd request " + path)
	}
	raw, err := json.Marshal(object)
	if err != nil {
		return err
	}
	var got struct {
		APIVersion, Kind string
		Metadata         struct{ Name string }
		Status           status
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		return err
	}
	if got.Kind != "EdgeNode" || got.Metadata.Name != "n1" || got.APIVersion != "fleet.holdfast.dev/v1alpha1" {
		return errors.New("odd object " + string(raw))
	}
	a.sent = append(a.sent, got.Status)
	a.times = append(a.times, time.Now())
	return nil
}

func (a *api) set(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

func (a *api) count() (gets, sent int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.gets, len(a.sent)
}

// all gives what was sent, and when.
func (a *api) all() ([]status, []time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.sent), slices.Clone(a.times)
}

func start(t *testing.T, a *api, changed func(condition.Condition)) (*uplink.Uplink, func()) {
	u := uplink.New(uplink.Config{API: a, Node: "n1", Log: slog.New(slog.DiscardHandler), Changed: changed})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); u.Run(ctx) }()
	return u, func() { cancel(); <-done }
}

func report(revision string, message string) condition.Report {
	return condition.Report{Node: "n1", Pool: "berlin", Revision: revision, Conditions: []condition.Condition{
		{Type: condition.Ready, Status: condition.True, Reason: "Reconciled", Message: message},
	}}
}

func TestChangesAreGatheredAndUnchangedReportsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{}
		u, stop := start(t, a, nil)
		defer stop()
		for _, r := range []string{"a", "b", "c"} {
			u.Report(report(r, ""))
		}
		time.Sleep(time.Second)
		sent, _ := a.all()
		if len(sent) != 1 || sent[0].Revision != "c" || sent[0].ObservedGeneration != 7 || sent[0].LastReportTime.IsZero() {
			t.Fatalf("sent %+v", sent)
		}
		if c := sent[0].Conditions; len(c) != 1 || c[0].Type != "Ready" || c[0].LastTransitionTime == "" {
			t.Fatalf("conditions %+v", c)
		}
		gets, _ := a.count()
		for range 100 {
			u.Report(report("c", ""))
			time.Sleep(time.Minute)
		}
		if g, n := a.count(); n != 1 || g != gets {
			t.Fatalf("%d requests for reports that say nothing new", g-gets)
		}
	})
}

func TestRateIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{}
		u, stop := start(t, a, nil)
		defer stop()
		for i := range 6000 {
			u.Report(report("r", string(rune('a'+i%20))))
			time.Sleep(100 * time.Millisecond)
		}
		if _, n := a.count(); n < 70 || n > 120 {
			t.Fatalf("%d reports in ten minutes", n)
		}
	})
}

func TestLatestIsKeptWhileOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{err: apiError(condition.ReasonAPIUnreachable)}
		var mu sync.Mutex
		var told []string
		u, stop := start(t, a, func(c condition.Condition) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, string(c.Status)+" "+c.Reason)
		})
		defer stop()
		u.Report(report("old", ""))
		time.Sleep(time.Hour)
		u.Report(report("new", ""))
		time.Sleep(time.Hour)
		if gets, _ := a.count(); gets < 60 || gets > 400 {
			t.Fatalf("%d tries in two hours", gets)
		}
		a.set(nil)
		time.Sleep(61 * time.Second)
		if sent, _ := a.all(); len(sent) != 1 || sent[0].Revision != "new" {
			t.Fatalf("sent %+v", sent)
		}
		mu.Lock()
		defer mu.Unlock()
		if strings.Join(told, ", ") != "False APIServerUnreachable, True Sent" {
			t.Fatalf("told %v", told)
		}
	})
}

func TestReturningNodesAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes = 200
		a := &api{err: apiError(condition.ReasonAPIUnreachable)}
		for range nodes {
			u, stop := start(t, a, nil)
			defer stop()
			u.Report(report("r", ""))
		}
		time.Sleep(30 * time.Minute)
		a.set(nil)
		time.Sleep(2 * time.Minute)
		_, times := a.all()
		if len(times) != nodes {
			t.Fatalf("%d of %d reported", len(times), nodes)
		}
		perSecond := map[int64]int{}
		for _, at := range times {
			perSecond[at.Unix()]++
		}
		for s, n := range perSecond {
			if n > 25 {
				t.Fatalf("%d of %d nodes reported in second %d", n, nodes, s)
			}
		}
	})
}

func TestMissingEdgeNodeIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{err: apiError(condition.ReasonNotFound)}
		var last condition.Condition
		changes := 0
		u, stop := start(t, a, func(c condition.Condition) { last = c; changes++ })
		u.Report(report("r", ""))
		time.Sleep(time.Hour)
		gets, _ := a.count()
		if gets < 30 || gets > 61 {
			t.Fatalf("%d tries in an hour", gets)
		}
		a.set(nil)
		time.Sleep(2*time.Minute + time.Second)
		if _, n := a.count(); n != 1 {
			t.Fatalf("sent %d", n)
		}
		stop()
		if changes != 2 || last.Reason != condition.ReasonSent {
			t.Fatalf("%d changes, last %+v", changes, last)
		}
	})
}

func TestLongMessagesFitTheCRD(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{}
		u, stop := start(t, a, nil)
		defer stop()
		u.Report(report("r", strings.Repeat("é", 40000)+"\xff"))
		time.Sleep(time.Second)
		sent, _ := a.all()
		got := sent[0].Conditions[0].Message
		if len(got) > 32768 || len(got) < 32000 || !utf8.ValidString(got) {
			t.Fatalf("%d bytes", len(got))
		}
	})
}
