// Package edgeagent is the agent of one node. It follows the fleet repo, keeps the newest accepted revision with its plan on
// disk, lets the parts bring the node to that plan, and reports. It starts from what it stored: no Git server, no DNS, no
// API server and no right clock is needed to go on with the plan in force.
package edgeagent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/store"
	"github.com/holdfast-dev/holdfast/edgeagent/uplink"
	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/nodepool"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

// API is the node's connection to its kube-apiserver. Errors carry a stable reason; methods are safe for concurrent use.
// Package edgeagent/kube has the one that is used.
type API interface {
	Get(ctx context.Context, path string, into any) error
	Apply(ctx context.Context, path, manager string, check bool, object any) error
	Watch(ctx context.Context, path, name string, each func(metadata json.RawMessage)) error
}

// Options are what an agent is made of. Only Config and Version come from outside; the rest is nil but in tests.
type Options struct {
	Config
	// Version is the agent's version, as it is reported.
	Version string
	Log     *slog.Logger
	// Now is the wall clock. It stamps conditions and says how old a revision is; nothing else depends on it.
	Now func() time.Time
	// Follower takes the place of package revision's.
	Follower Follower
	// API takes the place of the connection that the kubeconfig gives.
	API API
	// Step is called at named points between fetching and applying, so that tests can end the process there: "polled",
	// "fetched", "verified", "planned", those of store.Step, "applying".
	Step func(point string)
	// Ready is called once everything runs.
	Ready func()
}

func (o Options) withDefaults() Options {
	o.Config = o.Config.WithDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Step == nil {
		o.Step = func(string) {}
	}
	if o.Ready == nil {
		o.Ready = func() {}
	}
	return o
}

// Agent is an enrolled node's agent. Open makes one, Run runs it, Close ends it.
type Agent struct {
	opt      Options
	log      *slog.Logger
	store    *store.Store
	follower Follower
	api      API // nil if standalone
	node     *nodepool.Reconciler
	loop     *reconciler.Loop
	board    *board
	uplink   *uplink.Uplink // nil if standalone
	metrics  *metrics
	proxy    *proxyPart // nil if standalone or switched off
	commands chan command
	unsaved  chan struct{} // says that the report on disk is not the latest

	control net.Listener
	health  net.Listener // nil if off

	handled source.Refs // what the last poll saw, if nothing is left to do about it; the follow loop's alone
	fetched time.Time   // when the plan being applied was fetched; the follow loop's alone
}

// Open opens the state and the listeners. It needs no network.
func Open(opt Options) (*Agent, error) {
	opt = opt.withDefaults()
	if err := opt.Config.Validate(); err != nil {
		return nil, err
	}
	st, err := store.Open(opt.State, func(at string) { opt.Step(at) })
	if err != nil {
		return nil, err
	}
	a := &Agent{opt: opt, store: st, commands: make(chan command), unsaved: make(chan struct{}, 1)}
	if err := a.compose(); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// compose makes the parts and joins them.
func (a *Agent) compose() error {
	kept := a.store.Contents()
	e := kept.Enrolment
	a.log = a.opt.Log.With("node", e.Node)
	if err := a.store.Restored(); err != nil {
		a.log.Warn("the state was damaged and was made anew from its copy; nothing was lost", "err", err)
	}
	a.metrics = newMetrics(a)
	a.board = newBoard(a.firstReport(kept), a.opt.Now, a.reportChanged)
	var err error
	if a.follower = a.opt.Follower; a.follower == nil {
		if a.follower, err = newFollower(a.opt.State, e, a.log); err != nil {
			return err
		}
	}
	if a.api = a.opt.API; a.api == nil && !e.Standalone {
		if a.api, err = newAPI(a.opt.State, a.opt.Version); err != nil {
			return err
		}
	}
	a.loop = reconciler.NewLoop(reconciler.LoopConfig{
		Log: a.log, Now: a.opt.Now,
		Changed: func(_ string, conds []condition.Condition) { a.board.set(conds...) },
		Done:    a.reconciled,
	}, a.parts(e.Node)...)
	if a.proxied(e) {
		var settings plan.Proxy
		if kept.InForce != nil {
			settings = kept.InForce.Plan.Agent.Proxy
		}
		if a.proxy, err = a.openProxy(e.Node, settings); err != nil {
			return err
		}
		a.metrics.registry.MustRegister(a.proxy.serving.Collector(), a.proxy.outbox.Collector(), a.proxy.expiry())
	}
	if a.api != nil {
		a.uplink = uplink.New(uplink.Config{API: a.api, Node: e.Node, Log: a.log, Now: a.opt.Now, Changed: a.board.setReported})
	}
	a.board.set(a.startConditions()...)
	return a.listen()
}

// proxied tells whether the node has an autonomy proxy.
func (a *Agent) proxied(e store.Enrolment) bool {
	return !e.Standalone && slices.Contains(a.opt.Parts, ProxyPart) && (a.opt.ProxyAddress != NoAddress || a.opt.PodAddress != NoAddress)
}

// parts makes the reconcilers that were asked for.
func (a *Agent) parts(node string) []reconciler.Reconciler {
	var out []reconciler.Reconciler
	if a.api != nil && slices.Contains(a.opt.Parts, nodepool.Part) {
		a.node = nodepool.New(a.api, node, a.log)
		out = append(out, a.node)
	}
	return out
}

// Run runs the agent until ctx ends, and everything it started is back. It is called once.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var loopErr, proxyErr error
	if f := a.store.State().InForce; f != nil {
		a.enforce(f.Plan)
	}
	wg.Go(func() { loopErr = a.loop.Run(ctx) })
	wg.Go(func() { a.follow(ctx) })
	if a.proxy != nil {
		wg.Go(func() {
			proxyErr = a.proxy.run(ctx, func(c condition.Condition) { a.board.set(c) })
			cancel() // without it the node's pods have no API server: better to be started again
		})
	}
	wg.Go(func() { a.keep(ctx) })
	if a.node != nil {
		wg.Go(func() { a.node.Watch(ctx, func() { a.loop.Nudge(nodepool.Part) }) })
	}
	if a.uplink != nil {
		wg.Go(func() { a.uplink.Run(ctx) })
		report, _ := a.board.latest()
		a.uplink.Report(report)
	}
	stop := a.serve(&wg)
	a.log.Info("agent runs", "pool", a.pool(), "revision", a.store.State().Trust.Accepted, "version", a.opt.Version)
	a.opt.Ready()
	<-ctx.Done()
	stop()
	wg.Wait()
	return errors.Join(loopErr, proxyErr)
}

// Close lets go of state and listeners. Run must have returned. It may be called twice.
func (a *Agent) Close() error {
	var errs []error
	for _, l := range []net.Listener{a.control, a.health} {
		if l != nil {
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if c, ok := a.api.(interface{ Close() }); ok {
		c.Close()
	}
	closeFollower(a.follower)
	return errors.Join(append(errs, a.proxy.close(), a.store.Close())...)
}

// enforce makes a plan the one that all parts reconcile to.
func (a *Agent) enforce(p plan.Node) {
	a.follower.SetLimits(p.Agent.Limits)
	a.loop.SetPlan(p)
	if a.proxy != nil {
		a.proxy.enforce(p.Agent.Proxy)
	}
}

// pool is the pool whose plan is in force, or the one named at enrolment.
func (a *Agent) pool() string {
	s := a.store.State()
	if s.InForce != nil {
		return s.InForce.Plan.Pool
	}
	return s.Enrolment.Pool
}
