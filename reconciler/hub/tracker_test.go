package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// script is a revision.Path that does as a test says and writes down what it was asked.
type script struct {
	refs    source.Refs
	mu      sync.Mutex // guards poll
	poll    error
	verdict verify.Verdict
	verify  error
	way     []string // commits that are accepted before the verdict
	fleet   string
	pools   map[string]*plan.Pool
	failing map[string]error // by pool; "" is Pools itself
	asked   []string
}

func (s *script) Poll(context.Context) (source.Refs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refs, s.poll
}

// failPolls makes every further Poll give err. It is safe while a tracker runs.
func (s *script) failPolls(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.poll = err
}

func (s *script) Fetch(context.Context, source.Refs) error {
	s.asked = append(s.asked, "fetch")
	return nil
}

func (s *script) Enrol(_ context.Context, anchor string) (verify.State, error) {
	s.asked = append(s.asked, "enrol "+anchor)
	return verify.State{Fleet: s.fleet, Anchor: anchor, Accepted: anchor, Generation: 1}, nil
}

// Verify accepts the tip unless the script has a verdict.
func (s *script) Verify(_ context.Context, state verify.State, refs source.Refs, _ time.Time, keep func(verify.State) error) (verify.Verdict, error) {
	s.asked = append(s.asked, "verify "+refs.Tip)
	if s.verify != nil {
		return verify.Verdict{}, s.verify
	}
	for _, commit := range s.way {
		state.Accepted = commit
		state.Generation++
		if err := keep(state); err != nil {
			return verify.Verdict{}, err
		}
	}
	if s.verdict.Reason != "" {
		v := s.verdict
		v.State = state
		return v, nil
	}
	state.Accepted = refs.Tip
	state.Generation++
	return verify.Verdict{Accepted: true, Reason: verify.Accepted, Commit: refs.Tip, State: state}, nil
}

func (s *script) Pools(_ context.Context, commit string) ([]string, error) {
	s.asked = append(s.asked, "pools "+commit)
	var names []string
	for name := range s.pools {
		names = append(names, name)
	}
	for name := range s.failing {
		if name != "" && s.pools[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, s.failing[""]
}

func (s *script) Pool(_ context.Context, _, pool string) (*plan.Pool, error) {
	if err := s.failing[pool]; err != nil {
		return nil, err
	}
	return s.pools[pool], nil
}

// memory is a stateStore.
type memory struct {
	stored
	err error
}

func (m *memory) load(context.Context) (stored, error) { return m.stored, nil }

func (m *memory) save(_ context.Context, v stored) error {
	if m.err == nil {
		m.stored = v
	}
	return m.err
}

func poolOf(name string, nodes ...string) *plan.Pool {
	p := &plan.Pool{Fleet: "shops", Name: name}
	for _, n := range nodes {
		p.Nodes = append(p.Nodes, plan.Node{Fleet: "shops", Pool: name, Name: n})
	}
	return p
}

func newTracker(t *testing.T, follower *script, store *memory) *tracker {
	if follower.fleet == "" {
		follower.fleet = "shops"
	}
	return &tracker{
		follower: follower, store: store, anchor: "anchor", interval: time.Minute, workers: 1,
		clock: time.Now, random: func() float64 { return 0.5 }, log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		metrics: newMetrics(prometheus.NewRegistry()), publish: func(*picture) {}, rejected: func(verify.Verdict) {},
	}
}

// says gives a picture in words.
func says(p picture) string {
	rev := "nothing"
	if p.rollout != nil {
		rev = p.rollout.revision + " of " + strings.Join(p.rollout.names(), ",")
	}
	return fmt.Sprintf("source %s, verified %s, planned %s, %s", p.source.Reason, p.verified.Reason, p.planned.Reason, rev)
}

func check(t *testing.T, tr *tracker, want string) {
	t.Helper()
	if got := says(tr.pic); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTrackerAsksOnlyForWhatMoved(t *testing.T) {
	f := &script{refs: source.Refs{Tip: "one"}, pools: map[string]*plan.Pool{"berlin": poolOf("berlin", "till-1")}}
	tr := newTracker(t, f, &memory{})
	for range 3 {
		if err := tr.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	check(t, tr, "source Fetched, verified Accepted, planned Planned, one of berlin")
	if want := []string{"fetch", "enrol anchor", "verify one", "pools one"}; !slices.Equal(f.asked, want) {
		t.Errorf("asked %q, want %q", f.asked, want)
	}
	f.asked, f.refs.Notes = nil, "a note" // a countersignature came
	if err := tr.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"fetch", "verify one"}; !slices.Equal(f.asked, want) {
		t.Errorf("asked %q, want %q", f.asked, want)
	}
}

func TestTrackerKeepsTheRolloutOfARejectedRevision(t *testing.T) {
	f := &script{refs: source.Refs{Tip: "one"}, pools: map[string]*plan.Pool{"berlin": poolOf("berlin")}}
	store := &memory{}
	tr := newTracker(t, f, store)
	told := 0
	tr.rejected = func(verify.Verdict) { told++ }
	if err := tr.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := tr.pic.rollout
	f.refs.Tip, f.verdict = "two", verify.Verdict{Reason: verify.Unsigned, Commit: "two", Message: "commit two carries no signature"}
	for range 2 {
		if err := tr.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	check(t, tr, "source Fetched, verified Unsigned, planned Planned, one of berlin")
	if tr.pic.rollout != before || store.State.Accepted != "one" || told != 1 {
		t.Errorf("rollout %v, stored %q, told %d times", tr.pic.rollout, store.State.Accepted, told)
	}
	if want := "revision two is rejected and one stays in force: commit two carries no signature"; tr.pic.verified.Message != want {
		t.Errorf("message %q", tr.pic.verified.Message)
	}
	if n := strings.Count(strings.Join(f.asked, " "), "verify two"); n != 1 {
		t.Errorf("asked %d times for a verdict that cannot change", n)
	}
}

// TestTrackerFarBehind: what is accepted on the way to a tip that is rejected, or that there is no verdict on yet, is stored.
func TestTrackerFarBehind(t *testing.T) {
	f := &script{refs: source.Refs{Tip: "three"}, pools: map[string]*plan.Pool{"berlin": poolOf("berlin")}, way: []string{"one", "two"}}
	store := &memory{}
	tr := newTracker(t, f, store)
	f.verdict = verify.Verdict{Reason: verify.Unsigned, Commit: "three"}
	if err := tr.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(t, tr, "source Fetched, verified Unsigned, planned Planned, two of berlin")
	if store.State.Accepted != "two" || store.State.Generation != 3 {
		t.Errorf("stored %+v", store.State)
	}
	store.err, f.refs.Tip, f.verdict, f.way = errTakenOver, "six", verify.Verdict{}, []string{"four", "five"}
	if err := tr.step(t.Context()); !errors.Is(err, errTakenOver) || store.State.Accepted != "two" || tr.state.Accepted != "two" {
		t.Errorf("%v, stored %+v, in hand %+v", err, store.State, tr.state)
	}
}

func TestTrackerAsksAgainAboutTheFuture(t *testing.T) {
	f := &script{refs: source.Refs{Tip: "2099"}, verdict: verify.Verdict{Reason: verify.CommitDateInFuture}}
	tr := newTracker(t, f, &memory{})
	for range 2 {
		if err := tr.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.verdict = verify.Verdict{}
	if err := tr.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(t, tr, "source Fetched, verified Accepted, planned Planned, 2099 of ")
}

func TestTrackerRollsOutOnlyWhatIsStored(t *testing.T) {
	f := &script{refs: source.Refs{Tip: "one"}, pools: map[string]*plan.Pool{"berlin": poolOf("berlin")}}
	store := &memory{err: errors.New("etcd is full")}
	tr := newTracker(t, f, store)
	if err := tr.step(t.Context()); err == nil || tr.pic.rollout != nil {
		t.Fatalf("err %v, rollout %v", err, tr.pic.rollout)
	}
	store.err = nil
	if err := tr.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(t, tr, "source Fetched, verified Accepted, planned Planned, one of berlin")
	store.err, f.refs.Tip = fmt.Errorf("%w: conflict", errTakenOver), "two"
	if err := tr.run(t.Context()); !errors.Is(err, errTakenOver) {
		t.Errorf("run goes on after another hub took over: %v", err)
	}
}

func TestTrackerAfterARestart(t *testing.T) {
	state := stored{Anchor: "anchor", State: verify.State{Fleet: "shops", Accepted: "seven", Generation: 9}}
	down := &source.Error{Reason: condition.ReasonUnreachable, Err: errors.New("dial 10.0.0.1: port 1")}

	f := &script{poll: down, pools: map[string]*plan.Pool{"berlin": poolOf("berlin")}}
	tr := newTracker(t, f, &memory{stored: state})
	if err := tr.step(t.Context()); !errors.Is(err, down) {
		t.Fatal(err)
	}
	check(t, tr, "source Unreachable, verified , planned Planned, seven of berlin")
	down.Err = errors.New("dial 10.0.0.1: port 2")
	if err := tr.step(t.Context()); err == nil || !strings.Contains(tr.pic.source.Message, "port 1") {
		t.Errorf("err %v; a new text for the same reason is a write for every pool: %q", err, tr.pic.source.Message)
	}

	f = &script{poll: down, failing: map[string]error{"": errors.New("no clone")}}
	tr = newTracker(t, f, &memory{stored: state})
	if err := tr.step(t.Context()); err == nil {
		t.Fatal("no error")
	}
	check(t, tr, "source Unreachable, verified , planned , nothing")
}

func TestTrackerWithAnotherAnchor(t *testing.T) {
	state := stored{Anchor: "older", State: verify.State{Fleet: "shops", Accepted: "seven", Generation: 9}}
	f := &script{refs: source.Refs{Tip: "eight"}}
	store := &memory{stored: state}
	if err := newTracker(t, f, store).step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if store.Anchor != "anchor" || store.State.Accepted != "eight" || !slices.Contains(f.asked, "enrol anchor") {
		t.Errorf("stored %+v, asked %q", store.stored, f.asked)
	}
	f = &script{refs: source.Refs{Tip: "eight"}, fleet: "boats"}
	store = &memory{stored: state}
	tr := newTracker(t, f, store)
	if err := tr.step(t.Context()); err == nil || !strings.Contains(tr.pic.verified.Message, `is of fleet "boats", this hub's is "shops"`) {
		t.Errorf("err %v, message %q", err, tr.pic.verified.Message)
	}
	if store.State.Accepted != "seven" {
		t.Errorf("stored %+v", store.stored)
	}
}

func TestTrackerAndBadPools(t *testing.T) {
	wrong := fleet.Problems{{File: "pools/paris/pool.cue", Line: 3, Col: 5, Message: "conflicting values"}}
	f := &script{
		refs:    source.Refs{Tip: "one"},
		pools:   map[string]*plan.Pool{"berlin": poolOf("berlin", "till-1"), "paris": poolOf("paris", "till-2")},
		failing: map[string]error{},
	}
	tr := newTracker(t, f, &memory{})
	step := func(tip string) error {
		f.refs.Tip = tip
		return tr.step(t.Context())
	}
	if err := step("one"); err != nil {
		t.Fatal(err)
	}
	// A pool that cannot be evaluated keeps what it has, and the next poll does not try again what cannot change.
	f.failing["paris"], f.pools["berlin"] = wrong, poolOf("berlin", "till-1", "till-2", "till-3")
	if err := step("two"); err != nil {
		t.Fatal(err)
	}
	check(t, tr, "source Fetched, verified Accepted, planned Planned, two of berlin,paris")
	if got := tr.pic.rollout.nodes["till-2"].Pool; got != "paris" {
		t.Errorf("till-2 went to %s while paris cannot be read", got)
	}
	if c := tr.pic.poolPlanned("paris"); c.Reason != condition.ReasonInvalidFleet || c.Message != "pools/paris/pool.cue:3:5: conflicting values" {
		t.Errorf("paris says %+v", c)
	}
	if c := tr.pic.poolPlanned("berlin"); c.Reason != condition.ReasonPlanned {
		t.Errorf("berlin says %+v", c)
	}
	f.asked = nil
	if err := step("two"); err != nil || len(f.asked) != 0 {
		t.Errorf("err %v, asked %q", err, f.asked)
	}
	// Trouble that time may mend is tried again.
	f.failing["paris"] = errors.New("no memory for a child")
	if err := step("three"); err == nil {
		t.Fatal("no error")
	}
	delete(f.failing, "paris")
	f.pools["paris"] = poolOf("paris")
	if err := step("three"); err != nil {
		t.Fatal(err)
	}
	if got := tr.pic.rollout.nodes["till-2"].Pool; got != "berlin" {
		t.Errorf("till-2 is in %s", got)
	}
	// A revision whose pools cannot be listed is not rolled out.
	before := tr.pic.rollout
	f.failing[""] = &source.Error{Reason: condition.ReasonTooLarge, Err: errors.New("a million files")}
	if err := step("five"); err != nil {
		t.Fatal(err)
	}
	check(t, tr, "source Fetched, verified Accepted, planned TooLarge, three of berlin,paris")
	if tr.pic.rollout != before {
		t.Error("something was rolled out")
	}
}

// TestOnePoolCannotStopTheOthers: somebody who may change berlin alone names a node of paris there, and sends another to
// where it is not. Those nodes stay as they are; everybody else goes on.
func TestOnePoolCannotStopTheOthers(t *testing.T) {
	berlin := poolOf("berlin", "till-1", "till-3")
	berlin.MovedTo = map[string]string{"till-2": "nowhere", "till-5": "nowhere"}
	f := &script{refs: source.Refs{Tip: "one"}, pools: map[string]*plan.Pool{
		"berlin": berlin, "paris": poolOf("paris", "till-1", "till-4"), "rome": poolOf("rome", "till-5")}}
	tr := newTracker(t, f, &memory{})
	if err := tr.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(t, tr, "source Fetched, verified Accepted, planned Planned, one of berlin,paris,rome")
	for node, pool := range map[string]string{"till-3": "berlin", "till-4": "paris", "till-5": "rome"} {
		if n, decided := tr.pic.rollout.node(node, pool); !decided || n == nil || n.Pool != pool {
			t.Errorf("%s: %+v, decided %t", node, n, decided)
		}
	}
	for node, pool := range map[string]string{"till-1": "paris", "till-2": "berlin"} {
		if n, decided := tr.pic.rollout.node(node, pool); decided {
			t.Errorf("%s is decided: %+v", node, n)
		}
	}
	for pool, want := range map[string]string{"berlin": condition.ReasonInvalidFleet, "paris": condition.ReasonInvalidFleet, "rome": condition.ReasonPlanned} {
		if c := tr.pic.poolPlanned(pool); c.Reason != want {
			t.Errorf("%s says %+v", pool, c)
		}
	}
}

// TestBrokenPoolDoesNotHoldUpMoves: a node moved into a pool that cannot be read now. The others go on.
func TestBrokenPoolDoesNotHoldUpMoves(t *testing.T) {
	berlin := poolOf("berlin")
	berlin.MovedTo = map[string]string{"till-1": "paris"}
	f := &script{refs: source.Refs{Tip: "one"}, pools: map[string]*plan.Pool{"berlin": berlin}, failing: map[string]error{"paris": fleet.Problems{{Message: "x"}}}}
	tr := newTracker(t, f, &memory{})
	if err := tr.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(t, tr, "source Fetched, verified Accepted, planned Planned, one of berlin,paris")
}

func TestTrackerPublishesChangesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &script{refs: source.Refs{Tip: "one"}}
		tr := newTracker(t, f, &memory{})
		var published atomic.Int64
		tr.publish = func(*picture) { published.Add(1) }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- tr.run(ctx) }()
		time.Sleep(10 * time.Minute) // the bubble's clock
		synctest.Wait()
		if n := published.Load(); n != 1 {
			t.Errorf("published %d times, want once", n)
		}
		f.failPolls(errors.New("down"))
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := published.Load(); n != 2 {
			t.Errorf("published %d times, want twice", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestNodeIsUndecidedWhileItsPoolIsBroken(t *testing.T) {
	r := newRollout("one", []*plan.Pool{poolOf("berlin", "a", "b")}, map[string]condition.Condition{"paris": {}}, clashes{}, nil)
	for _, c := range []struct {
		node, pool string
		planned    bool
		decided    bool
	}{
		{"a", "", true, true},        // new
		{"a", "berlin", true, true},  // stays
		{"a", "rome", true, true},    // moved; rome is gone
		{"a", "paris", false, false}, // may have moved: paris cannot be read
		{"c", "paris", false, false}, // may have left
		{"c", "berlin", false, true}, // left
	} {
		n, decided := r.node(c.node, c.pool)
		if (n != nil) != c.planned || decided != c.decided {
			t.Errorf("node %s of %q: planned %v, decided %v", c.node, c.pool, n != nil, decided)
		}
	}
	if !r.has("paris") || !r.has("berlin") || r.has("rome") {
		t.Error("has is wrong")
	}
}
