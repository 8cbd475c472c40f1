package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a reconciler whose behaviour a test sets.
type fake struct {
	name string
	do   func(ctx context.Context, want plan.Node) ([]condition.Condition, error)

	mu    sync.Mutex
	calls []string // what every call was asked for
	times []time.Time
	busy  bool
}

func (f *fake) Part() string      { return f.name }
func (f *fake) Condition() string { return f.name + "Ready" }

func (f *fake) Reconcile(ctx context.Context, want plan.Node) ([]condition.Condition, error) {
	f.mu.Lock()
	if f.busy {
		panic("called twice at the same time")
	}
	f.busy = true
	f.calls = append(f.calls, want.Name)
	f.times = append(f.times, time.Now())
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.busy = false
		f.mu.Unlock()
	}()
	if f.do == nil {
		return nil, nil
	}
	return f.do(ctx, want)
}

func (f *fake) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// start runs a loop until the returned stop, which gives Run's error.
func start(t *testing.T, cfg reconciler.LoopConfig, parts ...reconciler.Reconciler) (*reconciler.Loop, func() error) {
	t.Helper()
	l := reconciler.NewLoop(cfg, parts...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return l, func() error { cancel(); return <-done }
}

func reason(t *testing.T, l *reconciler.Loop, typ string) string {
	t.Helper()
	c, ok := condition.Get(l.Conditions(), typ)
	if !ok {
		t.Fatalf("no condition %s", typ)
	}
	return string(c.Status) + " " + c.Reason
}

func TestNothingRunsBeforeThePlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{name: "a"}
		l, stop := start(t, reconciler.LoopConfig{}, f)
		l.Nudge("a")
		time.Sleep(time.Hour)
		if got := f.seen(); len(got) != 0 || reason(t, l, "aReady") != "Unknown Pending" || l.Settled() {
			t.Fatalf("calls %v, %s", got, reason(t, l, "aReady"))
		}
		l.SetPlan(plan.Node{Name: "n1"})
		synctest.Wait()
		if got := f.seen(); !slices.Equal(got, []string{"n1"}) || reason(t, l, "aReady") != "True Reconciled" || !l.Settled() {
			t.Fatalf("calls %v, %s", got, reason(t, l, "aReady"))
		}
		time.Sleep(24 * time.Hour)
		if got := f.seen(); len(got) != 1 {
			t.Fatalf("an idle loop made calls: %v", got)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestOnlyTheLatestPlanCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := &fake{name: "a"}
		f.do = func(_ context.Context, want plan.Node) ([]condition.Condition, error) {
			if want.Name == "n1" {
				<-release
			}
			return nil, nil
		}
		l, stop := start(t, reconciler.LoopConfig{}, f)
		l.SetPlan(plan.Node{Name: "n1"})
		synctest.Wait()
		for i := 2; i <= 5; i++ {
			l.SetPlan(plan.Node{Name: fmt.Sprintf("n%d", i)})
		}
		close(release)
		synctest.Wait()
		if got := f.seen(); !slices.Equal(got, []string{"n1", "n5"}) {
			t.Fatalf("calls %v", got)
		}
		stop()
	})
}

func TestErrorKindsSteerTheLoop(t *testing.T) {
	for _, c := range []struct {
		name    string
		err     error
		reason  string
		calls   func(n int) bool // in the hour after the first
		nudge   bool             // whether a nudge causes a call
		explain string
	}{
		{"stalled", &reconciler.Stalled{Reason: "Invalid", Err: errors.New("no")}, "False Invalid", func(n int) bool { return n == 1 }, false, "one call"},
		{"waiting", fmt.Errorf("wrapped: %w", &reconciler.Waiting{Reason: "NodeMissing", After: 10 * time.Minute, Err: errors.New("no node")}), "False NodeMissing", func(n int) bool { return n == 7 }, true, "a call each 10 minutes"},
		{"failed", &reconciler.Failed{Reason: "Forbidden", Err: errors.New("no")}, "False Forbidden", func(n int) bool { return n > 12 && n < 120 }, true, "back-off"},
		{"other", errors.New("boom"), "False BackingOff", func(n int) bool { return n > 12 && n < 120 }, true, "back-off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{name: "a", do: func(context.Context, plan.Node) ([]condition.Condition, error) { return nil, c.err }}
				l, stop := start(t, reconciler.LoopConfig{}, f)
				defer stop()
				l.SetPlan(plan.Node{Name: "n1"})
				synctest.Wait()
				time.Sleep(time.Hour + time.Second)
				n := len(f.seen())
				if !c.calls(n) || reason(t, l, "aReady") != c.reason {
					t.Fatalf("%d calls in an hour, want %s; condition %s", n, c.explain, reason(t, l, "aReady"))
				}
				time.Sleep(1500 * time.Millisecond) // past the least gap between nudges
				n = len(f.seen())
				l.Nudge("a")
				synctest.Wait()
				if got := len(f.seen()) - n; (got == 1) != c.nudge {
					t.Fatalf("a nudge caused %d calls", got)
				}
				n = len(f.seen())
				l.SetPlan(plan.Node{Name: "n2"})
				synctest.Wait()
				if got := f.seen(); len(got) != n+1 || got[n] != "n2" {
					t.Fatal("a new plan did not run at once")
				}
			})
		})
	}
}

func TestNudgesAreSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{name: "a"}
		l, stop := start(t, reconciler.LoopConfig{}, f)
		defer stop()
		l.SetPlan(plan.Node{Name: "n1"})
		for range 600 {
			l.Nudge("a")
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		if n := len(f.seen()); n < 55 || n > 63 {
			t.Fatalf("%d calls in a minute of nudges, want about 60", n)
		}
	})
}

func TestPanicAndHangStayInTheirPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		bad := &fake{name: "bad", do: func(context.Context, plan.Node) ([]condition.Condition, error) { panic("boom") }}
		hung := &fake{name: "hung", do: func(context.Context, plan.Node) ([]condition.Condition, error) { <-release; return nil, nil }}
		good := &fake{name: "good"}
		var mu sync.Mutex
		changed := map[string]int{}
		l, stop := start(t, reconciler.LoopConfig{Changed: func(part string, _ []condition.Condition) {
			mu.Lock()
			defer mu.Unlock()
			changed[part]++
		}}, bad, hung, good)
		l.SetPlan(plan.Node{Name: "n1"})
		synctest.Wait()
		if reason(t, l, "goodReady") != "True Reconciled" || reason(t, l, "badReady") != "False Panicked" {
			t.Fatalf("%v", l.Conditions())
		}
		time.Sleep(3 * time.Minute)
		if reason(t, l, "hungReady") != "False Hung" {
			t.Fatalf("%v", l.Conditions())
		}
		l.SetPlan(plan.Node{Name: "n2"})
		synctest.Wait()
		if got := good.seen(); !slices.Equal(got, []string{"n1", "n2"}) {
			t.Fatalf("the good part saw %v", got)
		}
		if got := hung.seen(); !slices.Equal(got, []string{"n1"}) {
			t.Fatalf("the hung part was called again: %v", got)
		}
		if len(bad.seen()) < 3 {
			t.Fatal("the panicking part was not tried again")
		}
		if err := stop(); err == nil || !strings.Contains(err.Error(), "hung did not return") {
			t.Fatalf("got %v", err)
		}
		close(release)
		mu.Lock()
		defer mu.Unlock()
		if changed["good"] != 1 || changed["hung"] != 1 {
			t.Fatalf("changes told: %v", changed)
		}
	})
}

func TestDeadlineReachesThePart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{name: "a", do: func(ctx context.Context, _ plan.Node) ([]condition.Condition, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		l, stop := start(t, reconciler.LoopConfig{Deadline: time.Minute}, f)
		l.SetPlan(plan.Node{Name: "n1"})
		time.Sleep(61 * time.Second)
		c, _ := condition.Get(l.Conditions(), "aReady")
		if c.Status != condition.False || !strings.Contains(c.Message, "deadline") {
			t.Fatalf("%+v", c)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestConditionsArePerPartAndKeepTheirTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wall := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
		fail := false
		f := &fake{name: "a", do: func(context.Context, plan.Node) ([]condition.Condition, error) {
			extra := condition.Condition{Type: "Extra", Status: condition.True, Reason: "Fine"}
			if fail {
				return []condition.Condition{extra}, errors.New("boom")
			}
			return []condition.Condition{extra}, nil
		}}
		l, stop := start(t, reconciler.LoopConfig{Now: func() time.Time { return wall }}, f)
		defer stop()
		l.SetPlan(plan.Node{Name: "n1"})
		synctest.Wait()
		wall, fail = wall.Add(time.Hour), true
		l.SetPlan(plan.Node{Name: "n2"})
		synctest.Wait()
		extra, _ := condition.Get(l.Conditions(), "Extra")
		main, _ := condition.Get(l.Conditions(), "aReady")
		if !extra.LastTransitionTime.Equal(wall.Add(-time.Hour)) || !main.LastTransitionTime.Equal(wall) || main.Status != condition.False {
			t.Fatalf("extra %v, main %+v", extra.LastTransitionTime, main)
		}
	})
}

func TestBackoffIsFullJitterUnderADoublingBound(t *testing.T) {
	for failures, bound := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 20: 5 * time.Minute, 1000: 5 * time.Minute} {
		var most time.Duration
		for range 400 {
			d := reconciler.Backoff(failures, time.Second, 5*time.Minute)
			if d < 0 || d >= bound {
				t.Fatalf("after %d failures: %s, bound %s", failures, d, bound)
			}
			most = max(most, d)
		}
		if most < bound/2 {
			t.Fatalf("after %d failures the longest of 400 delays is %s, under half of %s", failures, most, bound)
		}
	}
}
