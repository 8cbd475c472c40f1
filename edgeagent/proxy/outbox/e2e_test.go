//go:build e2e

package outbox_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// cluster is a real API server with a node and two pods on it.
type cluster struct {
	*testing.T
	lab   *lab.Lab
	admin kubernetes.Interface
	send  outbox.Send // as the node
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{T: t, lab: labtest.Start(t, lab.Options{})}
	ctx := t.Context()
	if _, err := c.lab.AddNode(ctx, lab.NodeOptions{Name: "n1"}); err != nil {
		t.Fatal(err)
	}
	c.admin = kubernetes.NewForConfigOrDie(c.config(c.lab.AdminKubeconfig()))
	node, err := c.lab.NodeKubeconfig("n1")
	if err != nil {
		t.Fatal(err)
	}
	cfg := c.config(node)
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	server, err := url.Parse(cfg.Host)
	if err != nil {
		t.Fatal(err)
	}
	c.send = func(r *http.Request) (*http.Response, error) {
		r.URL.Scheme, r.URL.Host = server.Scheme, server.Host
		return client.Do(r)
	}
	if _, err := c.admin.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) config(path string) *rest.Config {
	c.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		c.Fatal(err)
	}
	cfg.QPS = -1
	return cfg
}

func (c *cluster) pod(name, node string) *corev1.Pod {
	c.Helper()
	pod, err := c.admin.CoreV1().Pods("default").Create(c.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "main", Image: "example.com/main:1"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		c.Fatal(err)
	}
	return pod
}

// write does what package offline does with a status: what differs from base waits.
func (c *cluster) write(o *outbox.Outbox, ref outbox.Ref, uid types.UID, base, final any) {
	c.Helper()
	patch := outbox.Diff(ref.Resource, decode(c, encode(c, base)), decode(c, encode(c, final)))
	unlock := o.Lock(ref)
	defer unlock()
	if err := o.Put(c.Context(), outbox.Status{Ref: ref, UID: string(uid), Patch: encode(c, patch)}, true); err != nil {
		c.Fatal(err)
	}
}

// TestReplayToRealAPIServer: what upstream holds by then has changed, too. The node's own word replaces what it replaces, and the
// rest stays.
func TestReplayToRealAPIServer(t *testing.T) {
	c := newCluster(t)
	ctx := t.Context()
	o := open(t, newDisk())
	at := metav1.NewTime(time.Now().Add(time.Minute).Truncate(time.Second))

	node, err := c.admin.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	changed := node.DeepCopy()
	changed.Labels["shelf"] = "left"
	changed.Status.NodeInfo.BootID = "second"
	changed.Status.Capacity = corev1.ResourceList{"cpu": *node.Status.Capacity.Cpu()}
	changed.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.9"}}
	for i := range changed.Status.Conditions {
		changed.Status.Conditions[i].LastHeartbeatTime = at
	}
	c.write(o, outbox.Ref{Resource: "nodes", Name: "n1"}, node.UID, node, changed)
	// Meanwhile the node lifecycle controller gave the node up, and somebody counted something.
	lost := `{"status":{"capacity":{"example.com/slots":"3"},"conditions":[{"type":"Ready","status":"Unknown","reason":"NodeStatusUnknown","message":"Kubelet stopped posting node status."},{"type":"Foreign","status":"True"}]}}`
	if _, err := c.admin.CoreV1().Nodes().Patch(ctx, "n1", types.StrategicMergePatchType, []byte(lost), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}

	pod := c.pod("web", "n1")
	ready := pod.DeepCopy()
	ready.Status.Phase, ready.Status.PodIP, ready.Status.PodIPs = corev1.PodRunning, "10.9.0.2", []corev1.PodIP{{IP: "10.9.0.2"}}
	ready.Status.Conditions = append(ready.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: at})
	c.write(o, outbox.Ref{Resource: "pods", Namespace: "default", Name: "web"}, pod.UID, pod, ready)

	again := c.pod("again", "n1")
	c.write(o, outbox.Ref{Resource: "pods", Namespace: "default", Name: "again"}, "some-other-uid", again, ready)
	moved := c.pod("moved", "n2")
	c.write(o, outbox.Ref{Resource: "pods", Namespace: "default", Name: "moved"}, moved.UID, moved, ready)
	c.write(o, outbox.Ref{Resource: "pods", Namespace: "default", Name: "gone"}, "uid", moved, ready)
	event := `{"apiVersion":"v1","kind":"Event","metadata":{"name":"web.1","namespace":"default"},"involvedObject":{"kind":"Pod","namespace":"default","name":"web"},"reason":"Pulled","count":2,"source":{"host":"n1"}}`
	if err := o.PutEvent(ctx, "web.1", outbox.Event{Path: "/api/v1/namespaces/default/events", Object: []byte(event)}); err != nil {
		t.Fatal(err)
	}
	if err := o.Replay(ctx, c.send); err != nil {
		t.Fatal(err)
	}
	c.checkNode(ctx, changed)
	if got, err := c.admin.CoreV1().Pods("default").Get(ctx, "web", metav1.GetOptions{}); err != nil || got.Status.Phase != corev1.PodRunning || got.Status.PodIP != "10.9.0.2" || got.UID != pod.UID {
		t.Errorf("pod: %+v, %v", got, err)
	}
	if got, err := c.admin.CoreV1().Pods("default").Get(ctx, "again", metav1.GetOptions{}); err != nil || got.Status.Phase != corev1.PodPending {
		t.Errorf("the pod that was made anew: %+v, %v", got, err)
	}
	// The kubelet has posted the same event before, or posts it again.
	if err := o.PutEvent(ctx, "web.1", outbox.Event{Path: "/api/v1/namespaces/default/events", Object: []byte(strings.Replace(event, `"count":2`, `"count":7`, 1))}); err != nil {
		t.Fatal(err)
	}
	if err := o.Replay(ctx, c.send); err != nil {
		t.Fatal(err)
	}
	if got, err := c.admin.CoreV1().Events("default").Get(ctx, "web.1", metav1.GetOptions{}); err != nil || got.Count != 7 {
		t.Errorf("event: %+v, %v", got, err)
	}
	c.checkLosses(o.Report())
}

func (c *cluster) checkNode(ctx context.Context, want *corev1.Node) {
	c.Helper()
	got, err := c.admin.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
	if err != nil {
		c.Fatal(err)
	}
	slots := got.Status.Capacity["example.com/slots"]
	if got.Labels["shelf"] != "left" || got.Status.NodeInfo.BootID != "second" || len(got.Status.Addresses) != 1 || got.Status.Addresses[0].Address != "192.0.2.9" || slots.Value() != 3 {
		c.Errorf("node: %+v", got)
	}
	conditions := map[corev1.NodeConditionType]corev1.NodeCondition{}
	for _, condition := range got.Status.Conditions {
		conditions[condition.Type] = condition
	}
	ready := conditions[corev1.NodeReady]
	if ready.Status != corev1.ConditionTrue || ready.Message != "" && ready.Reason == "NodeStatusUnknown" || conditions["Foreign"].Status != corev1.ConditionTrue {
		c.Errorf("conditions: %+v, want those of %+v and Foreign", got.Status.Conditions, want.Status.Conditions)
	}
}

func (c *cluster) checkLosses(r outbox.Report) {
	c.Helper()
	why := map[string]string{}
	for _, l := range r.Lost {
		why[strings.TrimPrefix(l.What, "status of pods/default/")] = l.Why[:3]
	}
	c.Logf("losses: %+v", r.Lost)
	if r.Replayed != 4 || r.Dropped != 3 || r.Pending != 0 || why["again"] != "422" || why["gone"] != "404" || why["moved"] != "403" {
		c.Errorf("report: %+v", r)
	}
}
