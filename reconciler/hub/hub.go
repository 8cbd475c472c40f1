// Package hub is the controller in the cluster. It runs the same source, trust and plan code as a node and holds no rules
// of its own: it follows the fleet repo, turns each accepted revision into NodePools and EdgeNodes, sets on Nodes what
// a node may not set itself, and sums up what the nodes report.
//
// The tracker publishes pictures of the fleet repo; the controllers bring the cluster to the newest one. While there is no
// link to Git, or a revision is rejected, the last picture stays in force.
package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler/hub/api/v1alpha1"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
)

// Config is what a hub needs. Every field without a default is required.
type Config struct {
	// Cluster is how to reach the API server.
	Cluster *rest.Config
	// Namespace holds the hub's state and its leader lease.
	Namespace string
	// Follower reads the fleet repo. Its Pool is called from several goroutines.
	Follower revision.Path
	// Anchor is the commit to enrol at, got out of band: 40 hex digits. To change it is to enrol anew.
	Anchor string
	// PollInterval is the mean time between two polls of the fleet repo. Default 30 s.
	PollInterval time.Duration
	// Listen is where health and metrics are served, over TLS. Default ":9443".
	Listen string
	// CertFile and KeyFile are the serving certificate; without them the hub makes one at start.
	CertFile, KeyFile string
	// NoLeaderElection is for a hub that is known to be the only one.
	NoLeaderElection bool
	Log              *slog.Logger
	// Clock is for tests. Default time.Now.
	Clock func() time.Time
}

// Hub is a hub that Run has not started or is running.
type Hub struct {
	manager manager.Manager
	server  *server
}

// New builds a hub. It listens, but starts nothing.
func New(cfg Config) (*Hub, error) {
	if cfg.PollInterval == 0 {
		cfg.PollInterval = 30 * time.Second
	}
	if cfg.Listen == "" {
		cfg.Listen = ":9443"
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	mgr, err := newManager(cfg)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	metrics := newMetrics(registry)
	synced := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if !mgr.GetCache().WaitForCacheSync(ctx) {
			return errors.New("the cache is not filled yet: is the API server reachable, and was `holdfast install` run?")
		}
		return nil
	}
	srv, err := newServer(cfg.Listen, cfg.CertFile, cfg.KeyFile, prometheus.Gatherers{registry, ctrlmetrics.Registry}, synced, cfg.Log)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(mgr.Add(srv), compose(cfg, mgr, metrics)); err != nil {
		return nil, errors.Join(err, srv.listener.Close())
	}
	return &Hub{manager: mgr, server: srv}, nil
}

// Address is where health and metrics are served.
func (h *Hub) Address() string { return h.server.listener.Addr().String() }

// Run runs the hub until ctx ends. It gives an error if another hub took over: the process should end then.
func (h *Hub) Run(ctx context.Context) error { return h.manager.Start(ctx) }

func newManager(cfg Config) (manager.Manager, error) {
	scheme := kruntime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	mgr, err := manager.New(cfg.Cluster, manager.Options{
		Scheme:                        scheme,
		Logger:                        logr.FromSlogHandler(cfg.Log.Handler()),
		LeaderElection:                !cfg.NoLeaderElection,
		LeaderElectionID:              fieldManager,
		LeaderElectionNamespace:       cfg.Namespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metricsserver.Options{BindAddress: "0"}, // the hub's own server has them, over TLS
		HealthProbeBindAddress:        "0",
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&corev1.Node{}: {Transform: slimNode},
			&corev1.Pod{}:  runningPods(),
		}},
		Controller: config.Controller{MaxConcurrentReconciles: 16, SkipNameValidation: new(true), RecoverPanic: new(false)},
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the hub: %w", err)
	}
	return mgr, nil
}

// compose puts tracker and controllers together.
func compose(cfg Config, mgr manager.Manager, metrics *metrics) error {
	cluster, err := kubernetes.NewForConfig(cfg.Cluster)
	if err != nil {
		return err
	}
	recorder := mgr.GetEventRecorder(fieldManager)
	tell := func(about client.Object, typ, reason, action, message string) {
		recorder.Eventf(about, nil, typ, reason, action, "%s", message[:min(len(message), 1000)])
	}
	state := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: cfg.Namespace, Name: stateName}}
	b := &board{}
	spread := &spreader{client: mgr.GetClient(), log: cfg.Log}
	follow := &tracker{
		follower: cfg.Follower,
		store:    &configMapState{cluster: cluster, namespace: cfg.Namespace},
		anchor:   cfg.Anchor,
		interval: cfg.PollInterval,
		workers:  runtime.GOMAXPROCS(0),
		clock:    cfg.Clock,
		random:   rand.Float64,
		log:      cfg.Log,
		metrics:  metrics,
		rejected: func(v verify.Verdict) { tell(state, corev1.EventTypeWarning, v.Reason, "Verify", v.Message) },
	}
	if err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		b.changed = func(pic *picture) {
			if err := spread.spread(ctx, pic); err != nil && ctx.Err() == nil {
				cfg.Log.Error("spread the news of a revision", "err", err)
			}
		}
		follow.publish = b.put
		return follow.run(ctx)
	})); err != nil {
		return err
	}
	err = addControllers(mgr, spread,
		&pools{client: mgr.GetClient(), board: b, clock: cfg.Clock, log: cfg.Log, metrics: metrics, event: tell},
		&nodes{client: mgr.GetClient(), board: b, log: cfg.Log, event: tell})
	if err != nil {
		return err
	}
	return addPods(mgr, &pods{client: mgr.GetClient(), board: b, log: cfg.Log})
}

func addControllers(mgr manager.Manager, spread *spreader, p *pools, n *nodes) error {
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.EdgeNode{}, poolIndex, func(obj client.Object) []string {
		return []string{obj.(*v1alpha1.EdgeNode).Spec.Pool}
	})
	if err != nil {
		return fmt.Errorf("index EdgeNodes: %w", err)
	}
	if err := builder.ControllerManagedBy(mgr).Named("nodepool").
		For(&v1alpha1.NodePool{}).
		Watches(&v1alpha1.EdgeNode{}, poolsOfEdgeNodes()).
		Watches(&corev1.Node{}, poolsOfNodes(mgr.GetClient())).
		WatchesRawSource(spread.pools.source()).
		Complete(p); err != nil {
		return err
	}
	return builder.ControllerManagedBy(mgr).Named("edgenode").
		For(&v1alpha1.EdgeNode{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}))).
		Watches(&corev1.Node{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(marksChanged())).
		WatchesRawSource(spread.nodes.source()).
		Complete(n)
}
