//go:build e2e

package autonomy

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/test/fleetrepo"
	"github.com/holdfast-dev/holdfast/test/gitserver"
	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// quiet is a site without Services: it has no kube-proxy, of which a machine runs only one, and its proxy is at an address of its own,
// so that several run beside each other.
type quiet struct {
	*site
	// proxy is the proxy's host and port.
	proxy string
}

// newQuiet brings a cluster up with the node shop-1, which is behind the proxy and runs. more is CUE to add to its pool; prepare, if not
// nil, is called once the cluster is there.
func newQuiet(tb testing.TB, opts lab.Options, node lab.NodeOptions, more string, prepare func(*quiet)) *quiet {
	tb.Helper()
	opts.Controllers, opts.Services = true, true
	node.Name, node.Kubelet = "shop-1", true
	q := &quiet{site: &site{TB: tb, lab: labtest.Start(tb, opts)}, proxy: freeAddress(tb)}
	q.fleet = fleetrepo.Start(tb, gitserver.Config{}, fleetrepo.Pool{
		Name: "berlin", Nodes: map[string]map[string]string{node.Name: {"rack": "7"}}, More: more})
	q.must(installAll(tb.Context(), q.lab))
	if prepare != nil {
		prepare(q)
	}
	var err error
	q.link, err = q.lab.NewLink()
	q.must(err)
	q.node, err = q.lab.AddNode(tb.Context(), node)
	q.must(err)
	if prepare == nil { // there is no hub
		q.installHoldfast()
		q.kubectl("label", "node", node.Name, "fleet.holdfast.dev/pool=berlin")
	}
	q.enrol()
	raw, err := os.ReadFile(q.kubeconfig)
	q.must(err)
	q.kubeconfig += ".here" // the agent looks after the other one
	q.must(os.WriteFile(q.kubeconfig, []byte(strings.ReplaceAll(string(raw), "127.0.0.1:6440", q.proxy)), 0o600))
	q.agent()
	q.within(time.Minute, func() error { _, err := q.local("get", "node", node.Name); return err })
	q.must(q.node.StopKubelet())
	q.node.Kubeconfig = q.kubeconfig
	q.must(q.node.StartKubelet(tb.Context()))
	q.kubectl("create", "namespace", "shop")
	return q
}

// sub gives the site to a test within the test.
func (q *quiet) sub(t *testing.T) *quiet {
	in := *q.site
	in.TB = t
	return &quiet{site: &in, proxy: q.proxy}
}

// agent starts the agent.
func (q *quiet) agent() {
	q.Helper()
	q.runAgent("--proxy-address", q.proxy, "--pod-address", "off", "--address", "off")
}

// crash cuts the power.
func (q *quiet) crash() {
	q.Helper()
	q.must(q.lab.Stop("agent"))
	q.must(q.node.Crash())
}

// boot starts what a machine starts.
func (q *quiet) boot() {
	q.Helper()
	q.must(q.node.Boot(q.Context()))
	q.agent()
	_, err := q.node.LaunchKubelet()
	q.must(err)
}

// apply applies a file of testdata.
func (q *quiet) apply(file string) {
	q.Helper()
	// The controllers make a namespace's service account a little after it.
	q.within(30*time.Second, func() error {
		_, err := q.lab.Kubectl(q.Context(), "get", "serviceaccount", "default", "-n", "shop")
		return err
	})
	q.kubectl("apply", "-f", filepath.Join("testdata", file))
}

// start makes a pod on shop-1 past the scheduler, which places nothing on a node that is cut off.
func (q *quiet) start(name string) {
	q.Helper()
	type object = map[string]any
	q.must(q.lab.Request(q.Context(), http.MethodPost, "/api/v1/namespaces/shop/pods", object{
		"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": name}, "spec": object{
			"nodeName": "shop-1", "terminationGracePeriodSeconds": 1, "tolerations": []object{{"operator": "Exists"}},
			"containers": []object{{"name": "web", "image": lab.WebImage, "imagePullPolicy": "Never"}}}}, nil))
}

// asTheCloudSays waits until shop-1 runs exactly what the API server has for it, with nothing left to do, and gives the pods.
func (q *quiet) asTheCloudSays(limit time.Duration) map[string]pod {
	q.Helper()
	var pods map[string]pod
	q.within(limit, func() error {
		pods = q.pods()
		maps.DeleteFunc(pods, func(_ string, p pod) bool { return p.Spec.NodeName != "shop-1" })
		for name, p := range pods {
			if p.Metadata.DeletionTimestamp != "" || !p.ready() {
				return fmt.Errorf("pod %s is %s, Ready %v, and was told to end at %q", name, p.Status.Phase, p.ready(), p.Metadata.DeletionTimestamp)
			}
		}
		if got, want := q.running(), containersOf(pods); !maps.Equal(got, want) {
			return fmt.Errorf("%v run, the cloud says %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
		return nil
	})
	return pods
}

// mounted waits until a file in a pod's volume, as the kubelet wrote it, holds a text.
func (q *quiet) mounted(pod, plugin, file, want string) {
	q.Helper()
	uid := q.pods()[pod].Metadata.UID
	path := filepath.Join(q.lab.Dir, "nodes", "1", "kubelet", "pods", uid, "volumes", "kubernetes.io~"+plugin, file)
	q.within(90*time.Second, func() error {
		raw, err := os.ReadFile(path)
		if err == nil && !strings.Contains(string(raw), want) {
			err = fmt.Errorf("%s of pod %s holds %q, want %q", file, pod, raw, want)
		}
		return err
	})
}

// offlineList checks that the node, cut off, lists exactly these pods to its root.
func (q *quiet) offlineList(want map[string]pod) {
	q.Helper()
	q.within(30*time.Second, func() error {
		out, err := q.local("get", "pods", "-n", "shop", "--field-selector=spec.nodeName=shop-1", "-o", `jsonpath={range .items[*]}{.metadata.name}={.metadata.uid} {end}`)
		if err != nil {
			return err
		}
		got := map[string]string{}
		for pair := range strings.FieldsSeq(out) {
			name, uid, _ := strings.Cut(pair, "=")
			got[name] = uid
		}
		if !maps.Equal(got, uids(want)) {
			return fmt.Errorf("the node, cut off, lists %v, want %v", got, uids(want))
		}
		return nil
	})
}

// run is one life of a container: from one look to another.
type run struct {
	uid         string
	pid         int
	first, last int
}

// watch looks at the node's containers again and again, until stop gives each one's runs by POD/CONTAINER.
func (q *quiet) watch() (stop func() map[string][]run) {
	ctx, cancel := context.WithCancel(q.Context())
	history, failed := map[string][]run{}, make(chan error, 1)
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for look := 0; ; look++ {
			containers, err := q.node.Containers()
			if err != nil {
				failed <- err
				return
			}
			for _, c := range containers {
				if c.Namespace == "shop" {
					key := c.Pod + "/" + c.Name
					history[key] = seen(history[key], run{c.UID, c.PID, look, look})
				}
			}
			select {
			case <-ctx.Done():
				failed <- nil
				return
			case <-tick.C:
			}
		}
	}()
	return func() map[string][]run {
		q.Helper()
		cancel()
		q.must(<-failed)
		return history
	}
}

// seen adds a look at a container.
func seen(runs []run, r run) []run {
	for i := range runs {
		if runs[i].uid == r.uid && runs[i].pid == r.pid {
			runs[i].last = r.last
			return runs
		}
	}
	return append(runs, r)
}

// inOrder checks that a container began exactly as often as wanted and that no run overlapped the next.
func inOrder(key string, runs []run, want int) error {
	if len(runs) != want {
		return fmt.Errorf("%s ran %d times, want %d: %+v", key, len(runs), want, runs)
	}
	for i := 1; i < len(runs); i++ {
		if runs[i].first <= runs[i-1].last {
			return fmt.Errorf("%s ran twice at a time: %+v", key, runs)
		}
	}
	return nil
}
