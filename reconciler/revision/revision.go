// Package revision is the path from a Git server to plans that nodes and hub share: poll, fetch, verify, evaluate. It
// holds no rules of its own: source moves objects, policy/verify gives verdicts, fleet evaluates. What it adds is where each
// step runs (a child process with limits, only fetching with network), that a damaged clone is mended on the way, and that
// a pool whose files did not change is not evaluated again.
package revision

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// Children are the functions that this package, source and fleet run in children: what every program that follows a
// fleet repo hands to sandbox.Main, first thing in main and in TestMain.
func Children() map[string]sandbox.Func {
	all := map[string]sandbox.Func{
		childEnrol:    sandbox.Serve(serveEnrol),
		childVerify:   sandbox.Serve(serveVerify),
		childLayout:   sandbox.Serve(serveLayout),
		childEvaluate: sandbox.Serve(serveEvaluate),
	}
	maps.Copy(all, source.Children())
	maps.Copy(all, fleet.Children())
	return all
}

// Names of the children.
const (
	childEnrol    = "revision-enrol"
	childVerify   = "revision-verify"
	childLayout   = "revision-layout"
	childEvaluate = "revision-evaluate"
)

// Config says what is followed.
type Config struct {
	Source source.Config
	// Log gets what is worth telling beside errors. Nil means nowhere.
	Log *slog.Logger
	// Clock is time.Now unless a test says otherwise. It decides no verdict.
	Clock func() time.Time
	// MaxPools is how many pools' plans are remembered. Default 64; a hub wants as many as the fleet has pools.
	MaxPools int
	// Ahead is how many pools one child evaluates in the expectation that all will be asked for. Default 1; a hub, which
	// wants every pool, sets 32 and saves starting a child for each.
	Ahead int
	// Verify bounds the child that gives verdicts, Evaluate the one that evaluates CUE. Zeros mean the defaults.
	Verify, Evaluate sandbox.Limits
	// MaxOutput bounds what each child gives back, in bytes, which this process has in memory for a moment. Zero means
	// package sandbox's default.
	MaxOutput int64
	// Stint is for how long one child judges before another goes on from what it accepted. Default a quarter of the
	// processor time that it may take.
	Stint time.Duration
}

// Path is the way from a Git server to plans as node and hub know it. A Follower is one; their tests have others. Errors carry
// a stable reason: see Explain.
type Path interface {
	// Poll asks the Git server where branch and notes are. It writes nothing.
	Poll(ctx context.Context) (source.Refs, error)
	// Fetch brings the clone there. A clone that is there already costs nothing.
	Fetch(ctx context.Context, want source.Refs) error
	// Enrol reads fleet and trust at a commit of the clone that was vouched for out of band.
	Enrol(ctx context.Context, anchor string) (verify.State, error)
	// Verify gives the verdict on what was fetched. now is zero on nodes: wall time decides nothing there. A verdict over very
	// many commits takes a while: keep, unless nil, stores each state that is accepted on the way, for what follows
	// from it to hold whatever becomes of the rest. Its error ends the verdict.
	Verify(ctx context.Context, state verify.State, at source.Refs, now time.Time, keep func(verify.State) error) (verify.Verdict, error)
	// Pools names the pools of a revision, sorted.
	Pools(ctx context.Context, commit string) ([]string, error)
	// Pool gives the plan of one pool of a revision. The error's reason is PoolAbsent if there is no such pool, InvalidFleet
	// if the CUE is wrong.
	Pool(ctx context.Context, commit, pool string) (*plan.Pool, error)
}

var _ Path = (*Follower)(nil)

// again is after how long refs that were over a bound, or for which the clone was mended, are fetched again although they did
// not move.
const again = time.Hour

// Follower follows one branch of one fleet repo. It is safe for concurrent use; fetches wait for each other.
type Follower struct {
	cfg    Config
	client *source.Client
	memo   *memo

	fetching sync.Mutex // held during a fetch and while a clone is mended

	mu        sync.Mutex // guards what follows
	limits    plan.Limits
	refused   source.Refs // were over a bound
	refusal   error
	refusedAt time.Time
	mended    source.Refs // the clone was fetched anew for these
	mendedAt  time.Time
	running   map[poolKey]chan struct{} // pools being evaluated
	alone     map[poolKey]bool          // pools that failed together with others
}

// New gives a follower. It touches neither disk nor network.
func New(cfg Config) (*Follower, error) {
	client, err := source.New(cfg.Source)
	if err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.MaxPools == 0 {
		cfg.MaxPools = 64
	}
	return &Follower{
		cfg: cfg, client: client, memo: newMemo(cfg.MaxPools),
		running: map[poolKey]chan struct{}{}, alone: map[poolKey]bool{},
	}, nil
}

// Close ends idle connections.
func (f *Follower) Close() { f.client.Close() }

// SetLimits bounds the children that are started from now on. Zeros leave what was configured.
func (f *Follower) SetLimits(l plan.Limits) {
	f.mu.Lock()
	f.limits = l
	f.mu.Unlock()
	f.client.SetLimits(func(s source.Limits) source.Limits {
		if l.RepoMB > 0 {
			s.RepoBytes = l.RepoMB << 20
		}
		if l.MemoryMB > 0 {
			s.MemoryMB = l.MemoryMB
		}
		return s
	})
}

// bound gives the limits of one kind of child.
func (f *Follower) bound(lim, fallback sandbox.Limits) sandbox.Limits {
	f.mu.Lock()
	defer f.mu.Unlock()
	if lim == (sandbox.Limits{}) {
		lim = fallback
	}
	if f.limits.MemoryMB > 0 {
		lim.MemoryMB = f.limits.MemoryMB
	}
	if cpu := time.Duration(f.limits.CPU); cpu > 0 {
		lim.CPU = cpu
	}
	if lim.MaxOutput == 0 {
		lim.MaxOutput = f.cfg.MaxOutput
	}
	lim.Network, lim.Read, lim.Write = false, f.cfg.Source.Dir, ""
	return lim
}

// Poll asks the Git server where branch and notes are. It writes nothing.
func (f *Follower) Poll(ctx context.Context) (source.Refs, error) { return f.client.Poll(ctx) }

// Current gives the refs of the clone; zero if there is none.
func (f *Follower) Current() (source.Refs, error) { return f.client.Current() }

// Fetch brings the clone to want, which a Poll gave. A clone that is there already costs nothing. A damaged clone is set
// aside and fetched again. Refs that were refused as too large are not transferred again for an hour.
func (f *Follower) Fetch(ctx context.Context, want source.Refs) error {
	f.fetching.Lock()
	defer f.fetching.Unlock()
	if at, err := f.client.Current(); err == nil && at == want {
		return nil
	}
	return f.fetch(ctx, want)
}

// fetch is Fetch with the lock held.
func (f *Follower) fetch(ctx context.Context, want source.Refs) error {
	if err := f.refusedBefore(want); err != nil {
		return err
	}
	done, err := f.client.Fetch(ctx, want)
	if done.Repaired != "" {
		f.cfg.Log.Warn("the damaged clone was set aside", "dir", f.cfg.Source.Dir+".damaged", "reason", condition.ReasonRepaired, "cause", done.Repaired)
	}
	if reason, _ := Explain(err); reason == condition.ReasonTooLarge {
		f.mu.Lock()
		f.refused, f.refusal, f.refusedAt = want, err, f.cfg.Clock()
		f.mu.Unlock()
	}
	if err == nil {
		f.cfg.Log.Debug("fetched", "revision", want.Tip, "objects", done.Objects, "bytes", done.Bytes)
	}
	return err
}

func (f *Follower) refusedBefore(want source.Refs) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refusal != nil && f.refused == want && f.cfg.Clock().Sub(f.refusedAt) < again {
		return f.refusal
	}
	return nil
}

// Enrol reads fleet and trust at a commit of the clone that was vouched for out of band, and gives the first state. The
// error is a *verify.Rejection if the anchor is at fault.
func (f *Follower) Enrol(ctx context.Context, anchor string) (verify.State, error) {
	at, err := f.Current()
	if err != nil {
		return verify.State{}, err
	}
	in := enrolInput{Dir: f.cfg.Source.Dir, Anchor: anchor}
	out, err := call[enrolOutput](ctx, f, childEnrol, f.verifyLimits(), in, at)
	return out.State, err
}

func (f *Follower) verifyLimits() sandbox.Limits {
	return f.bound(f.cfg.Verify, sandbox.Limits{MemoryMB: 256, CPU: time.Minute, Timeout: 2 * time.Minute})
}
