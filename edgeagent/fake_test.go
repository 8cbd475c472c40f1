package edgeagent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/edgeagent/store"
	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

func TestMain(m *testing.M) {
	sandbox.Main(revision.Children())
	if state := os.Getenv("HOLDFAST_AGENT_CHILD"); state != "" {
		killedChild(state, os.Getenv("HOLDFAST_AGENT_POINT"))
	}
	goleak.VerifyTestMain(m)
}

// fakeFollower gives real verdicts over a repository in memory, and plans that a test writes down.
type fakeFollower struct {
	repo *verifytest.Repo

	mu        sync.Mutex
	pools     map[string]map[string]*plan.Pool // by commit, then name
	pollErr   error
	fetchErr  error
	verifyErr error
	poolErr   error
	hang      bool
	stint     int   // after how many commits a verdict pauses; 0 is never
	stintErr  error // ends a verdict at its first pause
	calls     []string
	nows      []time.Time
}

func (f *fakeFollower) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *fakeFollower) Poll(ctx context.Context) (source.Refs, error) {
	f.note("poll")
	if f.hang {
		<-ctx.Done()
		return source.Refs{}, ctx.Err()
	}
	if f.pollErr != nil {
		return source.Refs{}, f.pollErr
	}
	return source.Refs{Tip: f.repo.Tip(), Notes: f.repo.Notes()}, nil
}

func (f *fakeFollower) Fetch(context.Context, source.Refs) error {
	f.note("fetch")
	return f.fetchErr
}

func (f *fakeFollower) Enrol(_ context.Context, anchor string) (verify.State, error) {
	return verify.Enrol(f.repo, anchor)
}

func (f *fakeFollower) Verify(ctx context.Context, state verify.State, at source.Refs, now time.Time, keep func(verify.State) error) (verify.Verdict, error) {
	f.note("verify")
	f.nows = append(f.nows, now)
	if f.verifyErr != nil {
		return verify.Verdict{}, f.verifyErr
	}
	req := verify.Request{State: state, Tip: at.Tip, Notes: at.Notes, Now: now}
	if f.stint > 0 {
		judged := 0
		req.Enough = func() bool { judged++; return judged%f.stint == 0 }
	}
	for {
		v, err := verify.Verify(ctx, f.repo, req)
		if err != nil || v.Reason != verify.Unfinished {
			return v, err
		}
		if v.State.Generation != req.State.Generation {
			if err := errors.Join(keep(v.State), f.stintErr); err != nil {
				return v, err
			}
		}
		req.State, req.Progress = v.State, v.Progress
	}
}

func (f *fakeFollower) Pools(_ context.Context, commit string) ([]string, error) {
	return slices.Sorted(maps.Keys(f.pools[commit])), f.poolErr
}

func (f *fakeFollower) Pool(_ context.Context, commit, pool string) (*plan.Pool, error) {
	f.note("pool %s", pool)
	if f.poolErr != nil {
		return nil, f.poolErr
	}
	p := f.pools[commit][pool]
	if p == nil {
		return nil, &reconciler.Failed{Reason: condition.ReasonPoolAbsent, Err: fmt.Errorf("no folder pools/%s", pool)}
	}
	return p, nil
}

func (f *fakeFollower) SetLimits(plan.Limits) {}

// push makes a signed revision with these pools and gives its id.
func (f *fakeFollower) push(pools ...*plan.Pool) string {
	id := f.repo.Push("carol", verifytest.Files{"n": fmt.Sprint(len(f.pools))})
	f.put(id, pools...)
	return id
}

func (f *fakeFollower) put(commit string, pools ...*plan.Pool) {
	f.pools[commit] = map[string]*plan.Pool{}
	for _, p := range pools {
		f.pools[commit][p.Name] = p
	}
}

// pool makes a pool whose nodes carry one label.
func pool(name, label string, nodes ...string) *plan.Pool {
	p := &plan.Pool{Fleet: verifytest.Fleet, Name: name, MovedTo: map[string]string{}}
	for _, n := range nodes {
		p.Nodes = append(p.Nodes, plan.Node{Fleet: verifytest.Fleet, Pool: name, Name: n, Arch: "amd64",
			Labels: map[string]string{"rack": label}, Agent: plan.Agent{PollInterval: plan.Duration(time.Minute), Freshness: plan.Duration(24 * time.Hour)}})
	}
	return p
}

func moved(p *plan.Pool, node, to string) *plan.Pool {
	p.MovedTo[node] = to
	return p
}

// fakeAPI is a Node and an EdgeNode; server-side apply replaces what was applied before.
type fakeAPI struct {
	mu      sync.Mutex
	down    bool
	labels  map[string]string
	status  map[string]any
	applied chan struct{}
}

func newFakeAPI() *fakeAPI { return &fakeAPI{applied: make(chan struct{}, 1000)} }

type reasonError struct{ reason string }

func (e reasonError) Error() string        { return "answer: " + e.reason }
func (e reasonError) StableReason() string { return e.reason }

func (f *fakeAPI) Get(_ context.Context, path string, into any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return reasonError{condition.ReasonAPIUnreachable}
	}
	return json.Unmarshal(f.metadata(), into)
}

func (f *fakeAPI) metadata() []byte {
	owned := map[string]any{}
	for k := range f.labels {
		owned["f:"+k] = map[string]any{}
	}
	raw, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": "u", "labels": f.labels, "managedFields": []any{map[string]any{
		"manager": "holdfast-agent", "operation": "Apply", "fieldsV1": map[string]any{"f:metadata": map[string]any{"f:labels": owned}}}}}})
	if err != nil {
		panic(err)
	}
	return raw
}

func (f *fakeAPI) Apply(_ context.Context, path, _ string, _ bool, object any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return reasonError{condition.ReasonAPIUnreachable}
	}
	raw, err := json.Marshal(object)
	if err != nil {
		return err
	}
	var o struct {
		Metadata struct{ Labels map[string]string }
		Status   map[string]any
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return err
	}
	if strings.HasSuffix(path, "/status") {
		f.status = o.Status
		return nil
	}
	f.labels = o.Metadata.Labels
	select {
	case f.applied <- struct{}{}:
	default:
	}
	return nil
}

func (f *fakeAPI) Watch(ctx context.Context, _, _ string, _ func(json.RawMessage)) error {
	<-ctx.Done()
	return ctx.Err()
}

// node is an enrolled node under test, whose follow loop the test turns by hand.
type node struct {
	t     *testing.T
	state string
	f     *fakeFollower
	api   *fakeAPI
	log   *bytes.Buffer
	clock time.Time
	a     *Agent
}

// enrolled gives a node that was enrolled at the first commit, without a plan yet.
func enrolled(t *testing.T, inPool string) *node {
	t.Helper()
	repo := verifytest.New(t, verifytest.InMemory())
	trust, err := verify.Enrol(repo, repo.Anchor())
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "hf") // a test's own folder can be too long a path for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := store.Create(dir, store.Enrolment{Node: "n1", Pool: inPool, URL: "https://git.example.com/fleet", Branch: "main"}, trust); err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, state: dir, api: newFakeAPI(), log: &bytes.Buffer{}, clock: verifytest.Start.Add(time.Hour),
		f: &fakeFollower{repo: repo, pools: map[string]map[string]*plan.Pool{}}}
	n.open()
	return n
}

// open starts the agent from what is stored; a test that calls it again restarts it.
func (n *node) open() {
	n.t.Helper()
	if n.a != nil {
		n.a.keepNow()
		if err := n.a.Close(); err != nil {
			n.t.Fatal(err)
		}
	}
	a, err := Open(Options{
		Config: Config{State: n.state, Address: NoAddress, ProxyAddress: NoAddress, PodAddress: NoAddress}, Version: "v1.2.3",
		Log: slog.New(slog.NewTextHandler(n.log, nil)), Now: func() time.Time { return n.clock },
		Follower: n.f, API: n.api,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.a = a
	n.t.Cleanup(func() { a.Close() })
}

// run runs the agent until the test ends or the returned function is called.
func (n *node) run() (stop func()) {
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.a.Run(ctx); err != nil {
			n.t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	n.t.Cleanup(stop)
	return stop
}

// poll turns the follow loop once.
func (n *node) poll() error {
	n.t.Helper()
	return n.a.poll(n.t.Context())
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// want checks one condition: "False Unsigned".
func (n *node) want(typ, text string) condition.Condition {
	n.t.Helper()
	report, _ := n.a.board.latest()
	c, _ := condition.Get(report.Conditions, typ)
	if got := string(c.Status) + " " + c.Reason; got != text {
		n.t.Fatalf("%s is %s (%s), want %s", typ, got, c.Message, text)
	}
	return c
}

// inForce checks the label that the plan in force gives, "" for no plan.
func (n *node) inForce(label string) *store.InForce {
	n.t.Helper()
	f := n.a.store.State().InForce
	got := ""
	if f != nil {
		got = f.Plan.Labels["rack"]
	}
	if got != label {
		n.t.Fatalf("the plan in force says rack=%q, want %q", got, label)
	}
	return f
}

// eventually waits for something that another goroutine does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func socketOf(n *node) string { return filepath.Join(n.state, socketName) }
