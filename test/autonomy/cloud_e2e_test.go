//go:build e2e

package autonomy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/tools/clientcmd"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/hub"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/source"
	"github.com/holdfast-dev/holdfast/test/lab"
)

// TestCloudGoesOn is what the cloud may do about a node that it does not reach: hold it for lost, and go on with its pods as if it
// were there. Either way the node comes back to exactly what the cloud says, and nothing restarts that need not.
func TestCloudGoesOn(t *testing.T) {
	q := newQuiet(t, lab.Options{ControllerFlags: []string{
		// Kubelets renew their leases every 10 s.
		"--node-monitor-grace-period=16s", "--node-monitor-period=1s"}}, lab.NodeOptions{}, `pool: autonomyDuration: "1h"`, (*quiet).startHub)
	// Kubernetes evicts nothing where most nodes are lost.
	var lose func()
	for _, name := range []string{"steady-1", "steady-2", "steady-3", "lost-1"} {
		_, err := q.lab.AddNode(t.Context(), lab.NodeOptions{Name: name})
		q.must(err)
		lose = q.beat(name)
	}
	q.apply("quiet.yaml")
	for _, name := range []string{"gone", "forced", "phoenix", "image"} {
		q.start(name)
	}
	q.ready(9)
	q.bear("3600")
	t.Run("longer than eviction", func(t *testing.T) { q.sub(t).lostInTheCloud(lose) })
	t.Run("pods deleted, changed and added", func(t *testing.T) { q.sub(t).changedInTheCloud() })
}

// startHub runs a hub with the rights that `holdfast install` gives it.
func (q *quiet) startHub() {
	q.Helper()
	const namespace, user = "holdfast", "system:serviceaccount:holdfast:hub"
	for _, args := range [][]string{
		{"create", "namespace", namespace},
		{"create", "clusterrolebinding", "hub", "--clusterrole=holdfast-hub", "--user=" + user},
		{"create", "rolebinding", "hub", "-n", namespace, "--clusterrole=holdfast-hub-state", "--user=" + user},
	} {
		q.kubectl(args...)
	}
	kubeconfig, err := q.lab.Kubeconfig("hub", user)
	q.must(err)
	cluster, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	q.must(err)
	cluster.QPS = -1
	log := slog.New(slog.DiscardHandler)
	ctrllog.SetLogger(logr.FromSlogHandler(log.Handler()))
	follower, err := revision.New(revision.Config{Log: log, Source: source.Config{
		URL: q.fleet.URL, Branch: verifytest.Branch, Dir: filepath.Join(q.TempDir(), "clone"), Auth: source.Auth{CA: q.fleet.Git.CA}}})
	q.must(err)
	h, err := hub.New(hub.Config{Cluster: cluster, Namespace: namespace, Follower: follower, Anchor: q.fleet.Anchor(),
		PollInterval: time.Second, Listen: "127.0.0.1:0", NoLeaderElection: true, Log: log})
	q.must(err)
	ctx, cancel := context.WithCancel(q.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	q.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			q.Errorf("the hub ended with %v", err)
		}
		follower.Close()
	})
}

// beat reports of a node without kubelet every second, until stop or the end of the test.
func (q *quiet) beat(name string) (stop func()) {
	ctx, cancel := context.WithCancel(q.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			now := time.Now().UTC().Format(time.RFC3339)
			_ = q.lab.Request(ctx, http.MethodPatch, "/api/v1/nodes/"+name+"/status", map[string]any{"status": map[string]any{"conditions": []map[string]any{{
				"type": "Ready", "status": "True", "reason": "Beats", "lastHeartbeatTime": now, "lastTransitionTime": now}}}}, nil) // the next one may succeed
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	stop = func() { cancel(); <-done }
	q.Cleanup(stop)
	return stop
}

// bear waits until the hub, or its policy, has each of the pool's pods bear a lost node for so many seconds.
func (q *quiet) bear(seconds string) {
	q.Helper()
	q.within(time.Minute, func() error {
		for _, name := range append(named(q.pods(), "web-"), "ledger-0", "ledger-1", "reader") {
			got := q.kubectl("get", "pod", "-n", "shop", name, "-o", `jsonpath={.spec.tolerations[?(@.effect=="NoExecute")].tolerationSeconds}`)
			if got != seconds+" "+seconds {
				return fmt.Errorf("pod %s bears a lost node for %q seconds, want %s", name, got, seconds)
			}
		}
		return nil
	})
}

// lostInTheCloud cuts the link until Kubernetes has evicted what another node, lost in the same moment, had.
func (q *quiet) lostInTheCloud(lose func()) {
	before, look := q.pods(), q.watch()
	q.must(q.lab.Request(q.Context(), http.MethodPost, "/api/v1/namespaces/default/pods", map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "evicted"}, "spec": map[string]any{
			"nodeName": "lost-1", "containers": []map[string]any{{"name": "web", "image": lab.WebImage}},
			"tolerations": []map[string]any{{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2}}}}, nil))
	q.must(q.link.Cut())
	lose()
	q.within(90*time.Second, func() error {
		at := q.kubectl("get", "pod", "evicted", "--ignore-not-found", "-o", "jsonpath={.metadata.name}{.metadata.deletionTimestamp}")
		if at == "evicted" {
			return errors.New("Kubernetes has evicted nothing yet")
		}
		return q.unreachableFor("shop-1", 5*time.Second)
	})
	q.must(q.link.Restore())
	q.within(time.Minute, func() error {
		if q.unreachableFor("shop-1", 0) == nil {
			return errors.New("the node is back and Kubernetes still holds it for lost")
		}
		return nil
	})
	after := q.asTheCloudSays(time.Minute)
	if !maps.Equal(uids(after), uids(before)) {
		q.Errorf("pods are %v, were %v", uids(after), uids(before))
	}
	for key, runs := range look() {
		if err := inOrder(key, runs, 1); err != nil {
			q.Error(err)
		}
	}
}

// unreachableFor tells whether Kubernetes has held a node for lost for so long.
func (q *quiet) unreachableFor(node string, d time.Duration) error {
	at := q.kubectl("get", "node", node, "-o", `jsonpath={.spec.taints[?(@.effect=="NoExecute")].timeAdded}`)
	since, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return fmt.Errorf("node %s is not held for lost", node)
	}
	if age := time.Since(since); age < d {
		return fmt.Errorf("node %s has been held for lost for %v, want %v", node, age, d)
	}
	return nil
}

// changedInTheCloud changes all that the node runs while it is cut off, and cuts its power too. What the cloud said first, what it says
// now and nothing else is what runs, in this order.
func (q *quiet) changedInTheCloud() {
	before := containersOf(q.pods())
	q.must(q.link.Cut())
	for _, args := range [][]string{
		{"delete", "pod", "gone", "--wait=false"},
		{"delete", "pod", "forced", "phoenix", "--force", "--grace-period=0"},
		{"label", "pod", "reader", "tier=middle", "--overwrite"},
		{"label", "pod", "reader", "tier=back", "--overwrite"},
		{"set", "image", "pod/image", "web=" + lab.PauseImage},
		{"patch", "configmap", "prices", "--type=merge", "-p", `{"data":{"list.txt":"apple 2"}}`},
		{"patch", "configmap", "prices", "--type=merge", "-p", `{"data":{"list.txt":"apple 3"}}`},
		{"scale", "deployment", "web", "--replicas=1"},
		{"scale", "statefulset", "ledger", "--replicas=3"},
	} {
		q.kubectl(append(args, "-n", "shop")...)
	}
	q.start("phoenix")
	q.start("added")
	q.start("fleeting")
	q.kubectl("delete", "pod", "-n", "shop", "fleeting", "--force", "--grace-period=0")
	q.crash()
	q.boot()
	q.runs(time.Minute, before) // what was deleted in the cloud, too: the node does not know

	look := q.watch()
	q.must(q.link.Restore())
	q.settled(before, look)
	q.mounted("reader", "downward-api/labels", "labels", `tier="back"`)
	q.mounted("reader", "configmap/prices", "list.txt", "apple 3")
}

// settled waits until the node runs what the cloud says, and checks how it got there.
func (q *quiet) settled(before map[string]string, look func() map[string][]run) {
	q.Helper()
	q.within(time.Minute, func() error {
		if q.pods()["ledger-2"].Spec.NodeName == "" {
			return errors.New("ledger-2 is not scheduled")
		}
		return nil
	})
	q.asTheCloudSays(90 * time.Second)
	// What is added last is seen last: whatever was to come back as a ghost has had its time.
	q.start("fence")
	after := q.asTheCloudSays(30 * time.Second)
	history := look()
	for key, runs := range history {
		want := 1
		switch key {
		case "image/web":
			want = 2
		case "phoenix/web": // two pods of one name: a kubelet ends one and begins the other, and does not wait in between
			if len(runs) == 2 {
				runs = runs[1:]
			}
		}
		if err := inOrder(key, runs, want); err != nil {
			q.Error(err)
		}
	}
	if len(after) != 9 || len(named(after, "web-")) != 1 || after["phoenix"].Metadata.UID == before["phoenix/web"] {
		q.Errorf("the cloud has %v", uids(after))
	}
	for _, name := range []string{"gone", "forced", "fleeting"} {
		if _, ok := after[name]; ok || (len(history[name+"/web"]) > 0) != (before[name+"/web"] != "") {
			q.Errorf("pod %s: it is in the cloud %v, it ran %v", name, ok, history[name+"/web"])
		}
	}
}
