//go:build e2e

package autonomy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/holdfast-dev/holdfast/test/lab"
)

// TestCloudIsAnother is what a node finds when the cloud is not what it was: a pod that moved on while the node was down, and an API
// server that was restored from an older snapshot.
func TestCloudIsAnother(t *testing.T) {
	q := newQuiet(t, lab.Options{}, lab.NodeOptions{}, "", nil)
	_, err := q.lab.AddNode(t.Context(), lab.NodeOptions{Name: "shop-2", Kubelet: true})
	q.must(err)
	q.kubectl("label", "node", "shop-2", "fleet.holdfast.dev/pool=berlin")
	q.kubectl("cordon", "shop-2")
	q.apply("quiet.yaml")
	for _, name := range []string{"early", "stays"} {
		q.start(name)
	}
	q.ready(7)
	t.Run("a pod moved", func(t *testing.T) { q.sub(t).podMoved() })
	t.Run("an older snapshot", func(t *testing.T) { q.sub(t).olderSnapshot() })
}

// podMoved moves a StatefulSet's pod while its node is down, by hand, as one does when the node is not expected back. With the link up at
// boot the node must ask before it starts anything.
func (q *quiet) podMoved() {
	before := q.pods()
	q.crash()
	q.kubectl("cordon", "shop-1")
	q.kubectl("uncordon", "shop-2")
	q.kubectl("delete", "pod", "-n", "shop", "ledger-0", "--force", "--grace-period=0")
	q.within(time.Minute, func() error {
		if p := q.pods()["ledger-0"]; p.Spec.NodeName != "shop-2" || !p.ready() {
			return fmt.Errorf("ledger-0 is at %q, Ready %v", p.Spec.NodeName, p.ready())
		}
		return nil
	})
	q.kubectl("cordon", "shop-2")
	q.kubectl("uncordon", "shop-1")
	look := q.watch()
	q.boot()
	q.asTheCloudSays(time.Minute)
	q.start("fence") // seen after all that the boot brings
	after := q.asTheCloudSays(30 * time.Second)
	history := look()
	if runs := history["ledger-0/web"]; len(runs) > 0 {
		q.Errorf("ledger-0, which runs on shop-2, was started here too: %+v", runs)
	}
	delete(before, "ledger-0")
	for name := range before {
		if after[name].Metadata.UID != before[name].Metadata.UID {
			q.Errorf("pod %s has the UID %s, had %s", name, after[name].Metadata.UID, before[name].Metadata.UID)
		}
		if err := inOrder(name, history[name+"/web"], 1); err != nil {
			q.Error(err)
		}
	}
}

// olderSnapshot has the API server forget what happened since a snapshot: resourceVersions go backwards, and then come again with other
// contents. The node ends what is not in the cloud any more, starts what is there again, and follows what happens from then on.
func (q *quiet) olderSnapshot() {
	// Controllers are to be restarted when etcd is restored, Kubernetes' documentation says: they hold on to what they had seen. This
	// test needs them no more.
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		q.must(q.lab.Stop(name))
	}
	q.kubectl("apply", "-f", filepath.Join("testdata", "callers.yaml"))
	q.kubectl("wait", "--for=condition=Established", "crd/tills.shop.example.com", "--timeout=60s")
	q.till(http.MethodPost, "first")
	tills := q.informer()
	q.informed(tills, "first")
	q.must(q.lab.SaveEtcd(q.Context()))
	then := q.asTheCloudSays(time.Minute)

	q.start("later")
	q.kubectl("delete", "pod", "-n", "shop", "early", "--wait=false")
	q.kubectl("label", "pod", "-n", "shop", "reader", "tier=back", "--overwrite")
	for i := range 30 { // the versions that come again are used up slowly
		q.kubectl("patch", "configmap", "prices", "-n", "shop", "--type=merge", "-p", fmt.Sprintf(`{"data":{"list.txt":"pear %d"}}`, i))
	}
	q.within(time.Minute, func() error {
		running := q.running()
		if running["early/web"] != "" || running["later/web"] == "" {
			return errors.New("the node does not follow before the snapshot comes back")
		}
		return nil
	})
	q.mounted("reader", "configmap/prices", "list.txt", "pear 29")
	q.till(http.MethodPost, "second")
	q.till(http.MethodDelete, "first")
	q.informed(tills, "second")
	stays := q.watch()

	q.must(q.lab.RestoreEtcd(q.Context()))
	q.asThen(then)
	q.mounted("reader", "configmap/prices", "list.txt", "apple 1")
	q.mounted("reader", "downward-api/labels", "labels", `tier="front"`)
	q.informed(tills, "first")

	// What happens from now on has the versions of what happened before.
	q.start("after")
	q.kubectl("delete", "pod", "-n", "shop", "early", "--wait=false")
	q.kubectl("patch", "configmap", "prices", "-n", "shop", "--type=merge", "-p", `{"data":{"list.txt":"plum"}}`)
	q.asTheCloudSays(time.Minute)
	q.mounted("reader", "configmap/prices", "list.txt", "plum")
	if err := inOrder("stays/web", stays()["stays/web"], 1); err != nil {
		q.Error(err)
	}
	q.till(http.MethodPost, "third")
	q.informed(tills, "first", "third")

	// The same while the node is down: what starts then knows no version, and only the cache is of the other history.
	q.crash()
	q.must(q.lab.RestoreEtcd(q.Context()))
	q.boot()
	q.asThen(then)
	q.informed(tills, "first")
	q.must(q.link.Cut())
	q.offlineList(then)
}

// asThen waits until the node runs what the cloud says, which are the pods of the snapshot.
func (q *quiet) asThen(then map[string]pod) {
	q.Helper()
	now := q.asTheCloudSays(90 * time.Second)
	if !maps.Equal(uids(now), uids(then)) {
		q.Errorf("pods are %v, those of the snapshot are %v", uids(now), uids(then))
	}
}

// till makes or deletes a custom resource.
func (q *quiet) till(method, name string) {
	q.Helper()
	path := "/apis/shop.example.com/v1/namespaces/shop/tills"
	if method == http.MethodDelete {
		q.must(q.lab.Request(q.Context(), method, path+"/"+name, nil, nil))
		return
	}
	q.must(q.lab.Request(q.Context(), method, path, map[string]any{
		"apiVersion": "shop.example.com/v1", "kind": "Till", "metadata": map[string]any{"name": name}}, nil))
}

// informer watches custom resources through the proxy, as a pod's operator does.
func (q *quiet) informer() cache.Store {
	q.Helper()
	c := &callers{site: q.site, proxy: q.proxy}
	client, err := dynamic.NewForConfig(c.asPod(c.token("shop", "reader")))
	q.must(err)
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(client, 0, "shop", nil)
	informer := factory.ForResource(schema.GroupVersionResource{Group: "shop.example.com", Version: "v1", Resource: "tills"}).Informer()
	ctx, cancel := context.WithCancel(q.Context())
	factory.Start(ctx.Done())
	q.Cleanup(func() { cancel(); factory.Shutdown() })
	return informer.GetStore()
}

// informed waits until an informer has exactly these objects of the shop.
func (q *quiet) informed(store cache.Store, want ...string) {
	q.Helper()
	q.within(time.Minute, func() error {
		got := store.ListKeys()
		slices.Sort(got)
		if strings.ReplaceAll(strings.Join(got, " "), "shop/", "") != strings.Join(want, " ") {
			return fmt.Errorf("the informer has %v, want %v", got, want)
		}
		return nil
	})
}
