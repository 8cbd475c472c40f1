// Package selftest asks, while the node is online, whether it would come back offline: it replays the boot sequence of kubelet and
// kube-proxy against the cache and lists what would be missing, pod by pod. A node is Autonomous only if nothing is.
package selftest

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// Missing is one thing that a boot without link would want and not get.
type Missing struct {
	// Pod that needs it, as namespace/name; "" if the node does.
	Pod string `json:"pod,omitempty"`
	// Kind and Name of what is missing: "Secret" and "default/db".
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Why it would not be answered.
	Why string `json:"why"`
}

// Result is what came of a replay.
type Result struct {
	// Complete: every request of the boot would be answered.
	Complete bool      `json:"complete"`
	At       time.Time `json:"at"`
	// Asked is how many requests were replayed, Pods for how many pods.
	Asked   int       `json:"asked"`
	Pods    int       `json:"pods"`
	Missing []Missing `json:"missing,omitempty"`
}

// Config says against what the boot is replayed.
type Config struct {
	// Node is the name of this node.
	Node string
	// Serve answers as the proxy would offline, for the node's identity: offline.Handler.Serve.
	Serve func(w http.ResponseWriter, r *http.Request, req request.Request)
	// Scopes gives what anyone has read of a resource; it finds what kube-proxy reads, whose identity is its own.
	Scopes func(identity string, r scope.Resource) []scope.Info
	// Images tells which of the images of a pod are not on the node. nil: they are not checked.
	Images func(ctx context.Context, images []string) (missing []string, err error)
	Now    func() time.Time
}

// Run replays the boot. The error is only of ctx: whatever else goes wrong is something missing.
func Run(ctx context.Context, cfg Config) (Result, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	b := &boot{cfg: cfg, ctx: ctx, asked: map[string]*answer{}}
	b.node()
	for _, p := range b.pods() {
		if err := ctx.Err(); err != nil {
			return Result{}, fmt.Errorf("replay the boot: %w", err)
		}
		b.pod(p)
	}
	r := Result{At: cfg.Now(), Asked: len(b.asked), Pods: b.count, Missing: b.missing}
	slices.SortStableFunc(r.Missing, func(a, c Missing) int {
		return cmp.Or(strings.Compare(a.Pod, c.Pod), strings.Compare(a.Kind, c.Kind), strings.Compare(a.Name, c.Name))
	})
	r.Complete = len(r.Missing) == 0
	return r, ctx.Err()
}

// Condition sums a result up as the condition Autonomous.
func (r Result) Condition() condition.Condition {
	c := condition.Condition{Type: condition.Autonomous, Status: condition.True, Reason: condition.ReasonBootCovered,
		Message: fmt.Sprintf("without link, %d pods and this node's own requests would be answered from the cache", r.Pods)}
	if r.Complete {
		return c
	}
	c.Status, c.Reason = condition.False, condition.ReasonBootIncomplete
	const shown = 3
	var names []string
	for _, m := range r.Missing[:min(shown, len(r.Missing))] {
		names = append(names, m.String())
	}
	c.Message = strings.Join(names, "; ")
	if more := len(r.Missing) - shown; more > 0 {
		c.Message += fmt.Sprintf("; and %d more: see `holdfast-agent selftest`", more)
	}
	return c
}

// String gives "Secret default/db of pod default/web: it was not read …".
func (m Missing) String() string {
	text := m.Kind + " " + m.Name
	if m.Pod != "" {
		text += " of pod " + m.Pod
	}
	return text + ": " + m.Why
}

// boot is one replay.
type boot struct {
	cfg     Config
	ctx     context.Context
	asked   map[string]*answer // by path: pods share much
	missing []Missing
	count   int
}

// node asks what the kubelet asks before it looks at any pod.
func (b *boot) node() {
	name := url.QueryEscape("metadata.name=" + b.cfg.Node)
	for _, want := range []struct{ kind, name, path string }{
		{"Node", b.cfg.Node, "/api/v1/nodes/" + b.cfg.Node},
		{"Nodes", "this node alone", "/api/v1/nodes?fieldSelector=" + name},
		{"Services", "all", "/api/v1/services?fieldSelector=" + url.QueryEscape("spec.clusterIP!=None")},
		{"CSIDrivers", "all", "/apis/storage.k8s.io/v1/csidrivers"},
		{"RuntimeClasses", "all", "/apis/node.k8s.io/v1/runtimeclasses"},
		{"CSINode", b.cfg.Node, "/apis/storage.k8s.io/v1/csinodes/" + b.cfg.Node},
	} {
		b.need("", want.kind, want.name, want.path)
	}
}

// pods gives the pods that the kubelet would start.
func (b *boot) pods() []pod {
	var list struct{ Items []pod }
	if !b.read("", "Pods", "of this node", "/api/v1/pods?fieldSelector="+url.QueryEscape("spec.nodeName="+b.cfg.Node), &list) {
		return nil
	}
	return slices.DeleteFunc(list.Items, func(p pod) bool {
		_, mirror := p.Metadata.Annotations["kubernetes.io/config.mirror"]
		return mirror || p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed"
	})
}

// need asks for something, and notes it if there is no answer. That something does not exist is an answer.
func (b *boot) need(pod, kind, name, path string) {
	a := b.get(path)
	if a.code != http.StatusOK && a.code != http.StatusNotFound {
		b.miss(pod, kind, name, a.why())
		return
	}
	a.drop()
}

// read asks for something and decodes it. It tells whether it is there.
func (b *boot) read(pod, kind, name, path string, into any) bool {
	a := b.get(path)
	switch {
	case a.code == http.StatusNotFound:
		return false
	case a.code != http.StatusOK:
		b.miss(pod, kind, name, a.why())
		return false
	}
	if err := a.decode(into); err != nil {
		b.miss(pod, kind, name, err.Error())
		return false
	}
	return true
}

func (b *boot) miss(pod, kind, name, why string) {
	m := Missing{Pod: pod, Kind: kind, Name: name, Why: why}
	if !slices.Contains(b.missing, m) {
		b.missing = append(b.missing, m)
	}
}
