//go:build e2e

package hub

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/fleet/fleettest"
	"github.com/holdfast-dev/holdfast/reconciler/hub/api/v1alpha1"
	"github.com/holdfast-dev/holdfast/reconciler/hub/install"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/source"
	"github.com/holdfast-dev/holdfast/test/gitserver"
	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// world is a cluster with everything installed, a fleet repo on a real Git server, and a hub with the rights that
// `holdfast install` gives it and no more. Tests share the cluster: each has a fleet, a namespace and node names of its own.
type world struct {
	t      *testing.T
	fleet  string
	lab    *lab.Lab
	repo   *verifytest.Repo
	git    *gitserver.Server
	admin  client.Client
	asHub  *rest.Config
	anchor string
	clones int
}

func newWorld(t *testing.T, fleetID string, pools verifytest.Files) *world {
	t.Helper()
	return newWorldIn(t, labtest.Shared(t), "hub-"+fleetID, fleetID, pools)
}

// newWorldIn is newWorld in a lab of the test's own, with a hub that is the user.
func newWorldIn(t *testing.T, l *lab.Lab, user, fleetID string, pools verifytest.Files) *world {
	t.Helper()
	w := &world{t: t, fleet: fleetID, lab: l}
	cfg := w.config(w.lab.AdminKubeconfig(), nil)
	dyn, err := dynamic.NewForConfig(cfg)
	w.must(err)
	objects, err := install.Objects()
	w.must(err)
	w.must(install.Apply(t.Context(), dyn, objects, func(install.Step) {}))
	scheme := kruntime.NewScheme()
	w.must(clientgoscheme.AddToScheme(scheme))
	w.must(v1alpha1.AddToScheme(scheme))
	w.admin, err = client.New(cfg, client.Options{Scheme: scheme})
	w.must(err)

	binding := "hub-" + fleetID
	for _, args := range [][]string{
		{"create", "namespace", fleetID},
		{"create", "clusterrolebinding", binding, "--clusterrole=holdfast-hub", "--user=" + user},
		{"create", "rolebinding", binding, "-n", fleetID, "--clusterrole=holdfast-hub-state", "--user=" + user},
	} {
		out, err := w.lab.Kubectl(t.Context(), args...)
		if err != nil {
			t.Fatal(out, err)
		}
	}
	file, err := w.lab.Kubeconfig(binding, user)
	w.asHub = w.config(file, err)

	root := t.TempDir()
	files := verifytest.Files{}
	for _, f := range fleettest.Root() {
		files[f.Path] = string(f.Data)
	}
	for path, data := range pools {
		files[path] = data
	}
	policy := verifytest.DefaultPolicy()
	policy.Fleet = fleetID
	w.repo = verifytest.New(t, verifytest.At(filepath.Join(root, "fleet.git")), verifytest.WithPolicy(policy), verifytest.WithFiles(files))
	w.anchor = w.repo.Anchor()
	w.git, err = gitserver.Start(gitserver.Config{Root: root})
	w.must(err)
	t.Cleanup(func() { _ = w.git.Close() })
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) config(kubeconfig string, err error) *rest.Config {
	w.t.Helper()
	w.must(err)
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	w.must(err)
	cfg.QPS = -1
	return cfg
}

// start runs a hub with a new, empty clone until the test, or what it gives, ends it.
func (w *world) start() (stop func()) {
	w.t.Helper()
	w.clones++
	log := slog.New(slog.NewTextHandler(w.t.Output(), nil))
	follower, err := revision.New(revision.Config{Log: log, Source: source.Config{
		URL: w.git.URL + "/fleet.git", Branch: verifytest.Branch, Dir: filepath.Join(w.t.TempDir(), fmt.Sprintf("clone-%d", w.clones)),
		Auth: source.Auth{CA: w.git.CA},
	}})
	w.must(err)
	h, err := New(Config{
		Cluster: w.asHub, Namespace: w.fleet, Follower: follower, Anchor: w.anchor, PollInterval: 200 * time.Millisecond,
		Listen: "127.0.0.1:0", Log: log,
	})
	w.must(err)
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the hub ended with %v", err)
		}
		follower.Close()
	}
	w.t.Cleanup(stop)
	return stop
}

// eventually polls until check gives nil.
func (w *world) eventually(what string, check func() error) {
	w.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: %v", what, err)
		}
		select {
		case <-w.t.Context().Done():
			w.t.Fatalf("%s: %v", what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (w *world) pool(name string) (*v1alpha1.NodePool, error) {
	p := &v1alpha1.NodePool{}
	return p, w.admin.Get(w.t.Context(), client.ObjectKey{Name: name}, p)
}

func (w *world) edgeNode(name string) (*v1alpha1.EdgeNode, error) {
	n := &v1alpha1.EdgeNode{}
	return n, w.admin.Get(w.t.Context(), client.ObjectKey{Name: name}, n)
}

func (w *world) node(name string) (*corev1.Node, error) {
	n := &corev1.Node{}
	return n, w.admin.Get(w.t.Context(), client.ObjectKey{Name: name}, n)
}

// condition waits for a condition of a pool: its status, its reason, and text that its message holds.
func (w *world) condition(pool, typ, status, reason, text string) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("pool %s: %s=%s %s", pool, typ, status, reason), func() error {
		p, err := w.pool(pool)
		if err != nil {
			return err
		}
		c := meta.FindStatusCondition(p.Status.Conditions, typ)
		if c == nil || string(c.Status) != status || c.Reason != reason || !strings.Contains(c.Message, text) {
			return fmt.Errorf("condition is %+v, want a message with %q", c, text)
		}
		if c.ObservedGeneration != p.Generation || p.Status.ObservedGeneration != p.Generation {
			return fmt.Errorf("observedGeneration %d and %d, generation %d", c.ObservedGeneration, p.Status.ObservedGeneration, p.Generation)
		}
		return nil
	})
}

// newNode registers a Node with those taints, as a kubelet would, and has it be Ready. The hub may be at it meanwhile.
func (w *world) newNode(name string, taints ...corev1.Taint) {
	w.t.Helper()
	n := &corev1.Node{}
	n.Name, n.Spec.Taints = name, taints
	w.must(w.admin.Create(w.t.Context(), n))
	w.eventually("Node "+name+" becomes ready", func() error {
		n, err := w.node(name)
		if err != nil {
			return err
		}
		n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeNotReady })
		if err := w.admin.Update(w.t.Context(), n); err != nil {
			return err
		}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}}
		return w.admin.Status().Update(w.t.Context(), n)
	})
	w.t.Cleanup(func() {
		_ = w.admin.Delete(context.WithoutCancel(w.t.Context()), n) // Nodes are the whole cluster's: others start clean
	})
}

// poolFile gives pools/NAME/pool.cue with the text in it.
func poolFile(name, format string, args ...any) verifytest.Files {
	var b bytes.Buffer
	fmt.Fprintf(&b, "package fleet\n\npool: {\n\tname: %q\n\ttype: \"Edge\"\n\tarch: \"amd64\"\n\tlabels: \"topology.kubernetes.io/region\": \"eu\"\n", name)
	fmt.Fprintf(&b, format, args...)
	b.WriteString("\n}\n")
	return verifytest.Files{"pools/" + name + "/pool.cue": b.String()}
}

func files(many ...verifytest.Files) verifytest.Files {
	all := verifytest.Files{}
	for _, fs := range many {
		for path, data := range fs {
			all[path] = data
		}
	}
	return all
}

// reportReady writes a report as the node's agent does.
func (w *world) reportReady(name, digest, revision string) {
	w.t.Helper()
	file, err := w.lab.NodeKubeconfig(name)
	cfg := w.config(file, err)
	asNode, err := client.New(cfg, client.Options{Scheme: w.admin.Scheme()})
	w.must(err)
	n := &v1alpha1.EdgeNode{}
	n.Name = name
	status := fmt.Sprintf(`{"status":{"revision":%q,"planDigest":%q,"conditions":[{"type":"Ready","status":"True","reason":"Reconciled","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`, revision, digest)
	w.eventually(name+" reports", func() error {
		return asNode.Status().Patch(w.t.Context(), n, client.RawPatch(types.MergePatchType, []byte(status)))
	})
}
