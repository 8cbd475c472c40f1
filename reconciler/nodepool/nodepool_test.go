package nodepool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/nodepool"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is an API server with one Node, as far as nodepool sees it: it keeps account of owners like server-side apply.
type server struct {
	mu      sync.Mutex
	exists  bool
	labels  map[string]mark
	notes   map[string]mark
	refuse  map[string]bool // keys that may not be set
	down    bool
	applies int
	gets    int
	watches []chan json.RawMessage
}

// mark is a value with its owners.
type mark struct {
	value  string
	owners []string
}

func newServer() *server {
	return &server{exists: true, labels: map[string]mark{}, notes: map[string]mark{}, refuse: map[string]bool{}}
}

type apiError string

func (e apiError) Error() string        { return "answer: " + string(e) }
func (e apiError) StableReason() string { return string(e) }

func (s *server) Get(_ context.Context, path string, into any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	switch {
	case s.down:
		return apiError(condition.ReasonAPIUnreachable)
	case path != "/api/v1/nodes/n1" || !s.exists:
		return apiError(condition.ReasonNotFound)
	}
	return json.Unmarshal(s.metadata(), into)
}

func (s *server) metadata() json.RawMessage {
	values := func(m map[string]mark) map[string]string {
		out := map[string]string{}
		for k, v := range m {
			out[k] = v.value
		}
		return out
	}
	owned := func(m map[string]mark) map[string]any {
		out := map[string]any{".": map[string]any{}}
		for k, v := range m {
			if slices.Contains(v.owners, nodepool.Manager) {
				out["f:"+k] = map[string]any{}
			}
		}
		return out
	}
	raw, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": "u1", "labels": values(s.labels), "annotations": values(s.notes),
		"managedFields": []any{
			map[string]any{"manager": nodepool.Manager, "operation": "Update", "fieldsV1": map[string]any{"f:metadata": map[string]any{"f:labels": map[string]any{"f:never-mine": map[string]any{}}}}},
			map[string]any{"manager": nodepool.Manager, "operation": "Apply", "fieldsV1": map[string]any{"f:metadata": map[string]any{
				"f:labels": owned(s.labels), "f:annotations": owned(s.notes)}}},
		},
	}})
	if err != nil {
		panic(err)
	}
	return raw
}

func (s *server) Apply(_ context.Context, path, manager string, check bool, object any) error {
	raw, err := json.Marshal(object)
	if err != nil {
		return err
	}
	var node struct {
		Metadata struct {
			UID                 string
			Labels, Annotations map[string]string
		}
	}
	if err := json.Unmarshal(raw, &node); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.down:
		return apiError(condition.ReasonAPIUnreachable)
	case path != "/api/v1/nodes/n1" || manager != nodepool.Manager || node.Metadata.UID != "u1":
		return fmt.Errorf("odd request %s %s %s", path, manager, raw)
	}
	for _, set := range []map[string]string{node.Metadata.Labels, node.Metadata.Annotations} {
		for k, v := range set {
			if s.refuse[k] {
				return apiError(condition.ReasonForbidden)
			}
			if v == "not valid!" {
				return apiError(condition.ReasonInvalid)
			}
		}
	}
	if check {
		return nil
	}
	s.applies++
	s.set(s.labels, node.Metadata.Labels)
	s.set(s.notes, node.Metadata.Annotations)
	s.tell()
	return nil
}

func (s *server) set(have map[string]mark, want map[string]string) {
	for k, m := range have {
		if _, wanted := want[k]; wanted || !slices.Contains(m.owners, nodepool.Manager) {
			continue
		}
		m.owners = slices.DeleteFunc(slices.Clone(m.owners), func(o string) bool { return o == nodepool.Manager })
		if have[k] = m; len(m.owners) == 0 {
			delete(have, k)
		}
	}
	for k, v := range want {
		m := have[k]
		if m.value != v {
			m = mark{value: v}
		}
		if !slices.Contains(m.owners, nodepool.Manager) {
			m.owners = append(slices.Clone(m.owners), nodepool.Manager)
		}
		have[k] = m
	}
}

// edit changes the Node as somebody else.
func (s *server) edit(f func(labels, notes map[string]mark)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.labels, s.notes)
	s.tell()
}

func (s *server) tell() {
	for _, w := range s.watches {
		w <- s.metadata()
	}
}

func (s *server) Watch(ctx context.Context, path, name string, each func(json.RawMessage)) error {
	s.mu.Lock()
	if s.down {
		s.mu.Unlock()
		return apiError(condition.ReasonAPIUnreachable)
	}
	if path != "/api/v1/nodes" || name != "n1" {
		panic("watches more than its own node: " + path + " " + name)
	}
	events := make(chan json.RawMessage, 100)
	if s.exists {
		events <- s.metadata()
	}
	s.watches = append(s.watches, events)
	s.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, open := <-events:
			if !open {
				return nil
			}
			each(e)
		}
	}
}

func (s *server) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for kind, set := range map[string]map[string]mark{"": s.labels, "@": s.notes} {
		for k, m := range set {
			out = append(out, fmt.Sprintf("%s%s=%s %v", kind, k, m.value, m.owners))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func want(labels map[string]string, notes map[string]string) plan.Node {
	return plan.Node{Fleet: "kelp", Pool: "berlin", Name: "n1", Labels: labels, Annotations: notes}
}

func reconcileOnce(t *testing.T, s *server, w plan.Node) error {
	t.Helper()
	_, err := nodepool.New(s, "n1", slog.New(slog.DiscardHandler)).Reconcile(t.Context(), w)
	return err
}

func TestReconcile(t *testing.T) {
	s := newServer()
	s.labels["kubernetes.io/hostname"] = mark{"n1", []string{"kubelet"}}
	s.labels["site"] = mark{"other", []string{"kubectl"}}
	s.notes["volumes"] = mark{"true", []string{"kcm"}}
	full := want(map[string]string{
		"site": "berlin", "rack": "7", "kubernetes.io/hostname": "n1",
		"fleet.holdfast.dev/pool": "berlin", "node-restriction.kubernetes.io/zone": "z", "node-role.kubernetes.io/edge": "",
	}, map[string]string{"note": "x", "fleet.holdfast.dev/plan": "no"})
	if err := reconcileOnce(t, s, full); err != nil {
		t.Fatal(err)
	}
	const after = `@note=x [holdfast-agent]
@volumes=true [kcm]
kubernetes.io/hostname=n1 [kubelet holdfast-agent]
rack=7 [holdfast-agent]
site=berlin [holdfast-agent]`
	if got := s.String(); got != after {
		t.Fatalf("got\n%s\nwant\n%s", got, after)
	}
	if err := reconcileOnce(t, s, full); err != nil || s.applies != 1 {
		t.Fatalf("%v; %d applies, want 1: the second had nothing to do", err, s.applies)
	}
	if err := reconcileOnce(t, s, want(map[string]string{"rack": "8"}, nil)); err != nil {
		t.Fatal(err)
	}
	const less = `@volumes=true [kcm]
kubernetes.io/hostname=n1 [kubelet]
rack=8 [holdfast-agent]`
	if got := s.String(); got != less {
		t.Fatalf("got\n%s\nwant\n%s", got, less)
	}
	if err := reconcileOnce(t, s, want(nil, nil)); err != nil {
		t.Fatal(err)
	}
	if got := s.String(); got != "@volumes=true [kcm]\nkubernetes.io/hostname=n1 [kubelet]" {
		t.Fatalf("an empty plan left\n%s", got)
	}
}

func TestErrorsSteer(t *testing.T) {
	labels := map[string]string{"rack": "7"}
	for _, c := range []struct {
		name   string
		break_ func(*server)
		labels map[string]string
		reason string
		kind   string
	}{
		{"no node", func(s *server) { s.exists = false }, labels, condition.ReasonNodeMissing, "waiting"},
		{"down", func(s *server) { s.down = true }, labels, condition.ReasonAPIUnreachable, "failed"},
		{"forbidden", func(s *server) { s.refuse["rack"] = true }, labels, condition.ReasonForbidden, "failed"},
		{"invalid", func(*server) {}, map[string]string{"rack": "not valid!"}, condition.ReasonInvalid, "stalled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer()
			c.break_(s)
			err := reconcileOnce(t, s, want(c.labels, nil))
			var waiting *reconciler.Waiting
			var stalled *reconciler.Stalled
			kind := "failed"
			if errors.As(err, &waiting) {
				kind = "waiting"
			} else if errors.As(err, &stalled) {
				kind = "stalled"
			}
			if err == nil || reconciler.Reason(err) != c.reason || kind != c.kind {
				t.Fatalf("%v: %s, %s", err, reconciler.Reason(err), kind)
			}
		})
	}
}

func TestOneRefusedMarkKeepsNoOtherOut(t *testing.T) {
	s := newServer()
	s.refuse["bad"] = true
	s.refuse["worse"] = true
	err := reconcileOnce(t, s, want(map[string]string{"good": "1", "bad": "2", "also": "3"}, map[string]string{"worse": "4", "fine": "5"}))
	if err == nil || !strings.Contains(err.Error(), "label bad") || !strings.Contains(err.Error(), "annotation worse") || strings.Contains(err.Error(), "good") {
		t.Fatalf("got %v", err)
	}
	if got := s.String(); got != "@fine=5 [holdfast-agent]\nalso=3 [holdfast-agent]\ngood=1 [holdfast-agent]" {
		t.Fatalf("got\n%s", got)
	}
}

// run runs nodepool in a Loop, with its watch.
func run(t *testing.T, s *server) (*reconciler.Loop, func()) {
	t.Helper()
	r := nodepool.New(s, "n1", slog.New(slog.DiscardHandler))
	l := reconciler.NewLoop(reconciler.LoopConfig{}, r)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { l.Run(ctx) })
	wg.Go(func() { r.Watch(ctx, func() { l.Nudge(nodepool.Part) }) })
	return l, func() { cancel(); wg.Wait() }
}

func TestDriftIsCorrectedAndIdleIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		l, stop := run(t, s)
		defer stop()
		l.SetPlan(want(map[string]string{"rack": "7"}, nil))
		time.Sleep(10 * time.Second) // a watch that began before the write may ask for one more look, a second later
		const good = "rack=7 [holdfast-agent]"
		if s.String() != good {
			t.Fatal(s.String())
		}
		gets, applies := s.gets, s.applies
		for i := range 50 { // heartbeats and what others set
			s.edit(func(labels, _ map[string]mark) { labels["heartbeat"] = mark{fmt.Sprint(i), []string{"kubelet"}} })
			time.Sleep(10 * time.Second)
		}
		if s.gets != gets || s.applies != applies {
			t.Fatalf("%d reads and %d writes while idle", s.gets-gets, s.applies-applies)
		}
		for name, drift := range map[string]func(labels, _ map[string]mark){
			"changed": func(labels, _ map[string]mark) { labels["rack"] = mark{"8", []string{"kubectl"}} },
			"removed": func(labels, _ map[string]mark) { delete(labels, "rack") },
		} {
			s.edit(func(labels, notes map[string]mark) { delete(labels, "heartbeat"); drift(labels, notes) })
			time.Sleep(1100 * time.Millisecond)
			if s.String() != good {
				t.Fatalf("%s: %s", name, s.String())
			}
		}
	})
}

// TestQuarrelsCalmDown: another writer that sets a label back at once, each time, does not make the node storm the API server; and
// when it gives in the node is as planned.
func TestQuarrelsCalmDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		l, stop := run(t, s)
		defer stop()
		l.SetPlan(want(map[string]string{"rack": "7"}, nil))
		time.Sleep(time.Second)
		stubborn := func() {
			s.edit(func(labels, _ map[string]mark) { labels["rack"] = mark{"mine", []string{"stubborn"}} })
		}
		applies := func() int {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.applies
		}
		before := applies()
		stubborn()
		for i := range 1800 {
			time.Sleep(2 * time.Second)
			s.edit(func(labels, _ map[string]mark) { labels["heartbeat"] = mark{fmt.Sprint(i), []string{"kubelet"}} })
			s.edit(func(labels, _ map[string]mark) { delete(labels, "heartbeat") })
			if s.String() == "rack=7 [holdfast-agent]" {
				stubborn()
			}
		}
		if n := applies() - before; n < 10 || n > 40 {
			t.Fatalf("%d applies in an hour of quarrel", n)
		}
		time.Sleep(6 * time.Minute)
		if s.String() != "rack=7 [holdfast-agent]" {
			t.Fatalf("when the other gave in: %s", s)
		}
		time.Sleep(time.Hour)
		stubborn()
		time.Sleep(1500 * time.Millisecond)
		if s.String() != "rack=7 [holdfast-agent]" {
			t.Fatalf("after an hour of peace: %s", s)
		}
	})
}

func TestAServerThatComesBackIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.down = true
		l, stop := run(t, s)
		defer stop()
		l.SetPlan(want(map[string]string{"rack": "7"}, nil))
		time.Sleep(time.Hour)
		c, _ := condition.Get(l.Conditions(), condition.NodePoolReady)
		if c.Reason != condition.ReasonAPIUnreachable {
			t.Fatalf("%+v", c)
		}
		s.edit(func(map[string]mark, map[string]mark) { s.down = false })
		time.Sleep(65 * time.Second) // the watch tries at least each minute, however long the Loop backs off
		if c, _ = condition.Get(l.Conditions(), condition.NodePoolReady); c.Status != condition.True || s.String() != "rack=7 [holdfast-agent]" {
			t.Fatalf("%+v, %s", c, s.String())
		}
	})
}

func TestDesiredLeavesThePlanAlone(t *testing.T) {
	w := want(map[string]string{"fleet.holdfast.dev/pool": "berlin", "a": "b"}, map[string]string{"fleet.holdfast.dev/x": "y"})
	before := maps.Clone(w.Labels)
	got := nodepool.Desired(w)
	if !maps.Equal(w.Labels, before) || len(got.Labels) != 1 || len(got.Annotations) != 0 {
		t.Fatalf("%v, plan %v", got, w.Labels)
	}
}

func TestDiffReads(t *testing.T) {
	o := nodepool.Observed{
		Marks: nodepool.Marks{Labels: map[string]string{"same": "1", "other": "2", "foreign": "3", "gone": "4", "unowned": "5"}},
		Owned: nodepool.Keys{Labels: []string{"gone", "other", "same"}},
	}
	var got []string
	for _, c := range nodepool.Diff(o, nodepool.Marks{
		Labels:      map[string]string{"same": "1", "other": "9", "new": "7", "unowned": "5"},
		Annotations: map[string]string{"note": "x"},
	}) {
		got = append(got, c.String())
	}
	wantLines := []string{"set annotation note=x", "remove label gone", "set label new=7", "change label other=2 to 9", "own label unowned=5"}
	if !slices.Equal(got, wantLines) {
		t.Fatalf("got %q", got)
	}
}
