package revision_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/fleet/fleettest"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
	"github.com/holdfast-dev/holdfast/reconciler/source"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

func TestMain(m *testing.M) {
	sandbox.Main(revision.Children())
	os.Exit(m.Run())
}

// fleetFiles are a fleet of that many nodes.
func fleetFiles(nodes, perPool int) verifytest.Files {
	files := verifytest.Files{}
	for _, f := range fleettest.Files(nodes, perPool) {
		files[f.Path] = string(f.Data)
	}
	return files
}

// world is a signed fleet repo on a Git server, and a follower of it.
type world struct {
	tb     testing.TB
	repo   *verifytest.Repo
	server *gitserver.Server
	cfg    revision.Config
	log    *bytes.Buffer
	*revision.Follower
}

func newWorld(tb testing.TB, files verifytest.Files) *world {
	tb.Helper()
	w := &world{tb: tb, repo: verifytest.New(tb, verifytest.WithFiles(files)), log: &bytes.Buffer{}}
	var err error
	w.server, err = gitserver.Start(gitserver.Config{Root: filepath.Dir(w.repo.Dir)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = w.server.Close() })
	w.cfg = revision.Config{
		Source: source.Config{
			URL: w.server.URL + "/" + filepath.Base(w.repo.Dir), Branch: verifytest.Branch,
			Dir: filepath.Join(tb.TempDir(), "repo"), Auth: source.Auth{CA: w.server.CA},
		},
		Log: slog.New(slog.NewTextHandler(w.log, nil)),
	}
	w.Follower = w.follower()
	return w
}

// follower makes a fresh one, as after a restart.
func (w *world) follower() *revision.Follower {
	w.tb.Helper()
	f, err := revision.New(w.cfg)
	if err != nil {
		w.tb.Fatal(err)
	}
	w.tb.Cleanup(f.Close)
	return f
}

// pull polls and fetches.
func (w *world) pull() source.Refs {
	w.tb.Helper()
	refs, err := w.Poll(w.tb.Context())
	if err != nil {
		w.tb.Fatal(err)
	}
	if err := w.Fetch(w.tb.Context(), refs); err != nil {
		w.tb.Fatal(err)
	}
	return refs
}

// enrol pulls and reads the anchor.
func (w *world) enrol() verify.State {
	w.tb.Helper()
	w.pull()
	state, err := w.Enrol(w.tb.Context(), w.repo.Anchor())
	if err != nil {
		w.tb.Fatal(err)
	}
	return state
}

func (w *world) verdict(state verify.State, refs source.Refs) verify.Verdict {
	w.tb.Helper()
	v, err := w.Verify(w.tb.Context(), state, refs, time.Time{}, nil)
	if err != nil {
		w.tb.Fatal(err)
	}
	return v
}

func wantReason(tb testing.TB, err error, want string) {
	tb.Helper()
	reason, message := revision.Explain(err)
	if reason != want || message == "" {
		tb.Fatalf("%v has reason %q, want %q", err, reason, want)
	}
}

func TestFromPushToPlan(t *testing.T) {
	w := newWorld(t, fleetFiles(6, 3))
	state := w.enrol()
	if state.Fleet != verifytest.Fleet {
		t.Fatalf("enrolled in %q", state.Fleet)
	}
	pool := fleettest.PoolName(1)
	path := "pools/" + pool + "/pool.cue"
	changed := strings.Replace(fleetFiles(6, 3)[path], "name:", "// a comment\nname:", 1)
	tip := w.repo.Push("alice", verifytest.Files{path: changed, "README.md": "not evaluated"})
	refs := w.pull()
	v := w.verdict(state, refs)
	if !v.Accepted || v.State.Accepted != tip {
		t.Fatalf("%+v", v)
	}
	names, err := w.Pools(t.Context(), tip)
	if err != nil || len(names) != 2 || names[1] != pool {
		t.Fatalf("%v, %v", names, err)
	}
	got, err := w.Pool(t.Context(), tip, pool)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != pool || got.Fleet != verifytest.Fleet || len(got.Nodes) != 3 {
		t.Fatalf("%+v", got)
	}
	_, err = w.Pool(t.Context(), tip, "nowhere")
	wantReason(t, err, condition.ReasonPoolAbsent)
}

// TestRejected: a rejected revision gives a verdict with its reason and leaves the state as it was.
func TestRejected(t *testing.T) {
	w := newWorld(t, fleetFiles(3, 3))
	state := w.enrol()
	good := w.repo.Push("alice", verifytest.Files{"a.txt": "1"})
	v := w.verdict(state, w.pull())
	if !v.Accepted {
		t.Fatalf("%+v", v)
	}
	state = v.State
	w.repo.PushUnsigned(verifytest.Files{"a.txt": "2"})
	v = w.verdict(state, w.pull())
	if v.Accepted || v.Reason != verify.Unsigned || v.State.Accepted != good || v.State.Generation != state.Generation {
		t.Fatalf("unsigned: %+v", v)
	}
	w.repo.SetRef("refs/heads/"+verifytest.Branch, w.repo.Anchor())
	v = w.verdict(state, w.pull())
	if v.Accepted || v.Reason != verify.NotDescendant {
		t.Fatalf("an old commit again: %+v", v)
	}
	w.repo.SetRef("refs/heads/"+verifytest.Branch, good)
	if v = w.verdict(state, w.pull()); !v.Accepted {
		t.Fatalf("put back: %+v", v)
	}
}

// TestFarBehind: a verdict takes as many children as it needs, is the same, and what it came to on the way is kept.
func TestFarBehind(t *testing.T) {
	w := newWorld(t, fleetFiles(3, 3))
	w.cfg.Stint = time.Nanosecond
	w.Follower = w.follower()
	state := w.enrol()
	way := []string{w.repo.Anchor()}
	for i := range 4 {
		way = append(way, w.repo.Push("alice", verifytest.Files{"a.txt": fmt.Sprint(i)}))
	}
	var kept []string
	keep := func(s verify.State) error {
		kept = append(kept, s.Accepted)
		state = s
		return nil
	}
	v, err := w.Verify(t.Context(), state, w.pull(), time.Time{}, keep)
	if err != nil || !v.Accepted || len(v.Commits) != 4 || !slices.Equal(kept, way[1:4]) {
		t.Fatalf("%+v, %v; kept %v of %v", v, err, kept, way)
	}
	state = v.State
	good := w.repo.Push("alice", verifytest.Files{"a.txt": "good"})
	bad := w.repo.PushUnsigned(verifytest.Files{"a.txt": "bad"})
	w.repo.Push("alice", verifytest.Files{"a.txt": "x"})
	v, err = w.Verify(t.Context(), state, w.pull(), time.Time{}, keep)
	if err != nil || v.Accepted || v.Reason != verify.Unsigned || v.Commit != bad || state.Accepted != good || v.State.Accepted != good {
		t.Fatalf("%+v, %v; kept %s", v, err, state.Accepted)
	}
	full := errors.New("the disk is full")
	w.repo.SetRef("refs/heads/"+verifytest.Branch, good)
	for range 3 {
		w.repo.Push("alice", verifytest.Files{"a.txt": w.repo.Tip()})
	}
	if v, err = w.Verify(t.Context(), state, w.pull(), time.Time{}, func(verify.State) error { return full }); !errors.Is(err, full) || v.Accepted {
		t.Fatalf("%+v, %v", v, err)
	}
}

// TestOutputIsBounded: a child that has much to say is cut short, whatever it is about.
func TestOutputIsBounded(t *testing.T) {
	w := newWorld(t, fleetFiles(3, 3))
	state := w.enrol()
	w.repo.Push("alice", verifytest.Files{"a.txt": "1"})
	refs := w.pull()
	w.cfg.MaxOutput = 100
	w.Follower = w.follower()
	_, err := w.Verify(t.Context(), state, refs, time.Time{}, nil)
	wantReason(t, err, verify.TooLarge)
	if _, err := w.Pools(t.Context(), refs.Tip); !errors.Is(err, sandbox.ErrOutput) {
		t.Fatalf("got %v", err)
	}
	w.cfg.MaxOutput = 1000
	w.Follower = w.follower()
	_, err = w.Pool(t.Context(), refs.Tip, fleettest.PoolName(0))
	wantReason(t, err, condition.ReasonEvaluationLimit)
}

// TestVerdictsSayLittle: however many commits there are, what comes back of each is of the newest.
func TestVerdictsSayLittle(t *testing.T) {
	w := newWorld(t, fleetFiles(3, 3))
	state := w.enrol()
	for i := range 130 {
		w.repo.Push("alice", verifytest.Files{"a.txt": fmt.Sprint(i)})
	}
	refs := w.pull()
	v := w.verdict(state, refs)
	if !v.Accepted || len(v.Commits) != 100 || v.Commits[99].Commit != refs.Tip {
		t.Fatalf("%d commits", len(v.Commits))
	}
}

// TestJudgingTakesTooMuch: a child that gives no verdict within its limits says that the revision is at fault.
func TestJudgingTakesTooMuch(t *testing.T) {
	w := newWorld(t, fleetFiles(3, 3))
	state := w.enrol()
	w.repo.Push("alice", verifytest.Files{"a.txt": "1"})
	refs := w.pull()
	w.cfg.Verify = sandbox.Limits{MemoryMB: 256, Timeout: time.Nanosecond}
	w.Follower = w.follower()
	_, err := w.Verify(t.Context(), state, refs, time.Time{}, nil)
	wantReason(t, err, verify.TooLarge)
}

// TestLateCountersignature: the notes alone move, and the verdict changes.
func TestLateCountersignature(t *testing.T) {
	w := newWorld(t, fleetFiles(3, 3))
	state := w.enrol()
	bad := w.repo.PushUnsigned(verifytest.Files{"a.txt": "2"})
	before := w.pull()
	if v := w.verdict(state, before); v.Accepted {
		t.Fatalf("%+v", v)
	}
	w.repo.Countersign(bad, "bob")
	after := w.pull()
	if after.Tip != before.Tip || after.Notes == before.Notes {
		t.Fatalf("%v, then %v", before, after)
	}
	if v := w.verdict(state, after); !v.Accepted {
		t.Fatalf("%+v", v)
	}
}

func TestEnrolAtTheWrongCommit(t *testing.T) {
	w := newWorld(t, verifytest.Files{"x": "y"})
	w.pull()
	bare := w.repo.Commit(verifytest.Commit{Parents: []string{}, Files: verifytest.Files{"x": "y"}})
	w.pull()
	_, err := w.Enrol(t.Context(), bare)
	var rejection *verify.Rejection
	if !errors.As(err, &rejection) || rejection.Reason == "" || rejection.Commit != bare {
		t.Fatalf("got %v", err)
	}
}

// TestDamagedCloneIsMended: verify and evaluation meet a clone that rotted on disk.
func TestDamagedCloneIsMended(t *testing.T) {
	rot := func(t *testing.T, dir string) {
		t.Helper()
		packs, err := filepath.Glob(filepath.Join(dir, "objects/pack/*.pack"))
		if err != nil || len(packs) == 0 {
			t.Fatalf("%v, %v", packs, err)
		}
		for _, name := range packs {
			if err := os.Chmod(name, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(name, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt(bytes.Repeat([]byte{0x5a}, int(info.Size()-52)), 32); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
	}
	for name, damage := range map[string]func(t *testing.T, dir string){
		"bits rotted": rot,
		"the clone is gone": func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		},
		"an index is garbage": func(t *testing.T, dir string) {
			list, err := filepath.Glob(filepath.Join(dir, "objects/pack/*.idx"))
			if err != nil || len(list) == 0 {
				t.Fatalf("%v, %v", list, err)
			}
			if err := errors.Join(os.Chmod(list[0], 0o600), os.WriteFile(list[0], []byte("garbage"), 0o600)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, fleetFiles(3, 3))
			state := w.enrol()
			tip := w.repo.Push("alice", verifytest.Files{"a.txt": "1"})
			refs := w.pull()

			damage(t, w.cfg.Source.Dir)
			w.server.Set(gitserver.Answer(500))
			_, err := w.Verify(t.Context(), state, refs, time.Time{}, nil)
			wantReason(t, err, condition.ReasonUnreachable)
			w.server.Set(gitserver.Healthy)
			if v := w.verdict(state, refs); !v.Accepted {
				t.Fatalf("%+v", v)
			}
			w.Follower = w.follower()
			damage(t, w.cfg.Source.Dir)
			if name != "the clone is gone" { // then it does not know what to fetch: the next poll tells
				if _, err := w.Pool(t.Context(), tip, fleettest.PoolName(0)); err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(w.log.String(), condition.ReasonRepaired) {
					t.Errorf("the log does not tell: %s", w.log)
				}
			}
		})
	}
}

// TestWhatIsNotThereIsNotMendedForever: an object that the server does not have either costs one fetch, not one a try.
func TestWhatIsNotThereIsNotMendedForever(t *testing.T) {
	w := newWorld(t, fleetFiles(3, 3))
	w.enrol()
	missing := strings.Repeat("12", 20)
	if _, err := w.Pools(t.Context(), missing); err == nil {
		t.Fatal("no error")
	}
	w.server.Reset()
	for range 3 {
		if _, err := w.Pools(t.Context(), missing); err == nil {
			t.Fatal("no error")
		}
	}
	if n := w.server.Requests(); len(n) != 0 {
		t.Fatalf("fetched again: %v", n)
	}
}

// TestOnlyWhatChanged: of a fleet of ten pools one changes, and one is evaluated.
func TestOnlyWhatChanged(t *testing.T) {
	files := fleetFiles(20, 2)
	w := newWorld(t, files)
	w.enrol()
	all := func(commit string) (plans []*plan.Pool) {
		names, err := w.Pools(t.Context(), commit)
		if err != nil || len(names) != 10 {
			t.Fatalf("%v, %v", names, err)
		}
		for _, name := range names {
			p, err := w.Pool(t.Context(), commit, name)
			if err != nil {
				t.Fatal(err)
			}
			plans = append(plans, p)
		}
		return plans
	}
	before := all(w.repo.Anchor())
	path := "pools/" + fleettest.PoolName(3) + "/pool.cue"
	tip := w.repo.Push("alice", verifytest.Files{path: files[path] + "\n// changed\n", "docs/x.md": "y"})
	w.pull()
	same := 0
	for i, p := range all(tip) {
		if p == before[i] {
			same++
		}
	}
	if same != 9 {
		t.Fatalf("%d of 10 pools were not evaluated again, want 9", same)
	}
	tip = w.repo.Push("alice", verifytest.Files{"extra.cue": strings.Split(files["fleet.cue"], "\n")[0] + "\n"})
	w.pull()
	for i, p := range all(tip) {
		if p == before[i] {
			t.Fatalf("pool %d was not evaluated again although the root changed", i)
		}
	}
}

func TestInvalidFleet(t *testing.T) {
	files := fleetFiles(4, 2)
	w := newWorld(t, files)
	w.enrol()
	pool := fleettest.PoolName(1)
	tip := w.repo.Push("alice", verifytest.Files{"pools/" + pool + "/pool.cue": "package fleet\n\nthis is not CUE\n"})
	w.pull()
	_, err := w.Pool(t.Context(), tip, pool)
	var problems fleet.Problems
	if !errors.As(err, &problems) || problems[0].File != "pools/"+pool+"/pool.cue" || problems[0].Line != 3 {
		t.Fatalf("got %v", err)
	}
	wantReason(t, err, condition.ReasonInvalidFleet)
	if _, err := w.Pool(t.Context(), tip, fleettest.PoolName(0)); err != nil {
		t.Fatalf("the other pool: %v", err)
	}
}

// TestBomb: CUE that eats memory and time ends its child, not this process, which stays small.
func TestBomb(t *testing.T) {
	files := fleetFiles(4, 2)
	w := newWorld(t, files)
	w.cfg.Evaluate = sandbox.Limits{MemoryMB: 192, CPU: 2 * time.Second, Timeout: 30 * time.Second}
	w.Follower = w.follower()
	w.enrol()
	pool := fleettest.PoolName(1)
	path := "pools/" + pool + "/pool.cue"
	bomb := "\n_bomb: [for i in list.Range(0, 3000, 1) for j in list.Range(0, 3000, 1) {a: i, b: j, c: \"\\(i)-\\(j)\"}]\npool: labels: bomb: \"\\(len(_bomb))\"\n"
	tip := w.repo.Push("alice", verifytest.Files{path: files[path] + bomb})
	w.pull()
	before := anonymous(t)
	_, err := w.Pool(t.Context(), tip, pool)
	var limit *fleet.LimitError
	if !errors.As(err, &limit) || limit.Pool != pool {
		t.Fatalf("got %v", err)
	}
	wantReason(t, err, condition.ReasonEvaluationLimit)
	if grown := anonymous(t) - before; grown > 8<<20 {
		t.Errorf("this process grew by %d MB", grown>>20)
	}
	if _, err := w.Pool(t.Context(), tip, fleettest.PoolName(0)); err != nil {
		t.Fatalf("the other pool: %v", err)
	}
}

// TestAhead: a hub asks for all pools at once; one that is a bomb spoils its batch, but no other pool's plan.
func TestAhead(t *testing.T) {
	files := fleetFiles(24, 2)
	w := newWorld(t, files)
	w.cfg.Ahead = 8
	w.cfg.Evaluate = sandbox.Limits{MemoryMB: 192, CPU: 2 * time.Second, Timeout: 30 * time.Second}
	w.Follower = w.follower()
	w.enrol()
	bad, wrong := fleettest.PoolName(1), fleettest.PoolName(2)
	path := "pools/" + bad + "/pool.cue"
	bomb := "\n_bomb: [for i in list.Range(0, 3000, 1) for j in list.Range(0, 3000, 1) {a: i, b: j}]\npool: labels: bomb: \"\\(len(_bomb))\"\n"
	tip := w.repo.Push("alice", verifytest.Files{path: files[path] + bomb, "pools/" + wrong + "/pool.cue": "package fleet\nnot CUE\n"})
	w.pull()
	want := map[string]string{bad: condition.ReasonEvaluationLimit, wrong: condition.ReasonInvalidFleet}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			name := fleettest.PoolName(i)
			p, err := w.Pool(t.Context(), tip, name)
			if reason, _ := revision.Explain(err); reason != want[name] || err == nil && p.Name != name {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
}

// anonymous gives this process's anonymous resident memory.
func anonymous(tb testing.TB) int64 {
	tb.Helper()
	runtime.GC()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	tb.Fatal("no RssAnon in /proc/self/status")
	return 0
}

// TestTooLargeIsNotFetchedAgain: refs over a bound cost one transfer, until they move or an hour has gone by.
func TestTooLargeIsNotFetchedAgain(t *testing.T) {
	w := newWorld(t, fleetFiles(3, 3))
	now := time.Now()
	w.cfg.Source.Limits.ObjectBytes = 200_000
	w.cfg.Clock = func() time.Time { return now }
	w.Follower = w.follower()
	w.enrol()
	good := w.repo.Tip()
	w.repo.Push("alice", verifytest.Files{"big.bin": strings.Repeat("0123456789", 30_000)})
	refs, err := w.Poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, w.Fetch(t.Context(), refs), condition.ReasonTooLarge)
	w.server.Reset()
	wantReason(t, w.Fetch(t.Context(), refs), condition.ReasonTooLarge)
	if n := w.server.Requests(); len(n) != 0 {
		t.Fatalf("transferred again: %v", n)
	}
	now = now.Add(2 * time.Hour)
	wantReason(t, w.Fetch(t.Context(), refs), condition.ReasonTooLarge)
	if n := w.server.Requests(); len(n) != 1 {
		t.Fatalf("after two hours: %v", n)
	}
	w.repo.SetRef("refs/heads/"+verifytest.Branch, good)
	w.repo.Push("alice", verifytest.Files{"small.txt": "x"})
	w.pull()
}

// TestTreeBomb: ten folders in each of ten folders, ten deep, are a few objects to fetch. Verdict and evaluation stay bounded.
func TestTreeBomb(t *testing.T) {
	w := newWorld(t, fleetFiles(3, 3))
	state := w.enrol()
	tree := w.repo.Tree(verifytest.Entry{Mode: "100644", Name: "f", ID: w.repo.Write("blob", []byte("x"))})
	for range 10 {
		var entries []verifytest.Entry
		for i := range 10 {
			entries = append(entries, verifytest.Entry{Mode: "40000", Name: fmt.Sprint(i), ID: tree})
		}
		tree = w.repo.Tree(entries...)
	}
	root := append(w.repo.Entries(w.repo.TreeOf(w.repo.Tip())), verifytest.Entry{Mode: "40000", Name: "zbomb", ID: tree})
	tip := w.repo.Commit(verifytest.Commit{Tree: w.repo.Tree(root...), By: w.repo.Key("alice")})
	refs := w.pull()
	v := w.verdict(state, refs)
	if v.Accepted || v.Commit != tip {
		t.Fatalf("%+v", v)
	}
	if _, err := w.Pool(t.Context(), tip, fleettest.PoolName(0)); err != nil {
		t.Fatalf("the pool's own files are few: %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	w := newWorld(t, fleetFiles(8, 2))
	state := w.enrol()
	refs, err := w.Current()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if _, err := w.Pool(t.Context(), refs.Tip, fleettest.PoolName(i)); err != nil {
				t.Error(err)
			}
			if err := w.Fetch(t.Context(), refs); err != nil {
				t.Error(err)
			}
			if v, err := w.Verify(t.Context(), state, refs, time.Time{}, nil); err != nil || !v.Accepted {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
	wg.Wait()
}

// TestLimitsOfThePlan: what a plan says of limits holds for the children started after it. The pool is large enough that no child can
// evaluate it in what the Go runtime has mapped before the limit is set.
func TestLimitsOfThePlan(t *testing.T) {
	w := newWorld(t, fleetFiles(1, 300))
	w.enrol()
	w.SetLimits(plan.Limits{MemoryMB: 1})
	_, err := w.Pool(t.Context(), w.repo.Tip(), fleettest.PoolName(0))
	if reason, _ := revision.Explain(err); err == nil || reason == condition.ReasonInvalidFleet {
		t.Fatalf("1 MiB was enough: %v", err)
	}
	w.SetLimits(plan.Limits{})
	if _, err := w.Pool(t.Context(), w.repo.Tip(), fleettest.PoolName(0)); err != nil {
		t.Fatal(err)
	}
}

func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err             error
		reason, message string
	}{
		{nil, "", ""},
		{errors.New("boom"), condition.ReasonBackingOff, "boom"},
		{fmt.Errorf("fetch: %w", &source.Error{Reason: condition.ReasonDiskFull, Err: errors.New("full")}), condition.ReasonDiskFull, "fetch: full"},
		{&reconciler.Waiting{Reason: condition.ReasonUnreachable, After: time.Second, Err: errors.New("later")}, condition.ReasonUnreachable, "later (next try in 1s)"},
		{&verify.Rejection{Reason: verify.Unsigned, Message: "m", Commit: "c"}, verify.Unsigned, "m"},
		{fleet.Problems{{File: "a.cue", Line: 1, Col: 2, Message: "bad"}}, condition.ReasonInvalidFleet, "a.cue:1:2: bad"},
	} {
		if reason, message := revision.Explain(c.err); reason != c.reason || message != c.message {
			t.Errorf("%v: %q, %q", c.err, reason, message)
		}
	}
	if _, message := revision.Explain(errors.New(strings.Repeat("x", 10_000) + "\xff")); len(message) > 3000 {
		t.Errorf("a message of %d bytes", len(message))
	}
}
