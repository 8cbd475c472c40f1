package selftest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/selftest"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// pods are those of node n1: one that needs everything, one that has ended, a static one, and kube-proxy.
const pods = `{"items":[
{"metadata":{"namespace":"shop","name":"web","uid":"u1"},"status":{"phase":"Running","resourceClaimStatuses":[{"name":"gpu","resourceClaimName":"web-gpu-x"}]},
 "spec":{"serviceAccountName":"web","runtimeClassName":"gvisor","imagePullSecrets":[{"name":"pull"}],"resourceClaims":[{"name":"gpu","resourceClaimTemplateName":"t"},{"name":"nic","resourceClaimName":"nic-1"}],
  "initContainers":[{"image":"init:1","envFrom":[{"configMapRef":{"name":"env"}},{"secretRef":{"name":"env"}}]}],
  "containers":[{"image":"web:1","env":[{"name":"A","value":"x"},{"name":"B","valueFrom":{"secretKeyRef":{"name":"key","key":"k"}}},{"name":"C","valueFrom":{"configMapKeyRef":{"name":"key","key":"k"}}},{"name":"D","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}]}],
  "volumes":[
   {"name":"kube-api-access","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt"}},{"downwardAPI":{"items":[]}},{"serviceAccountToken":{"audience":"vault","path":"v"}},{"secret":{"name":"projected"}}]}},
   {"name":"config","configMap":{"name":"config"}},{"name":"secret","secret":{"secretName":"secret"}},{"name":"scratch","emptyDir":{}},
   {"name":"data","persistentVolumeClaim":{"claimName":"data"}},{"name":"tmp","ephemeral":{"volumeClaimTemplate":{}}},
   {"name":"inline","csi":{"driver":"d","nodePublishSecretRef":{"name":"publish"}}}]}},
{"metadata":{"namespace":"shop","name":"done","uid":"u2"},"status":{"phase":"Succeeded"},"spec":{"volumes":[{"name":"s","secret":{"secretName":"never"}}]}},
{"metadata":{"namespace":"kube-system","name":"etcd-n1","uid":"u3","annotations":{"kubernetes.io/config.mirror":"x"}},"status":{"phase":"Running"},"spec":{"volumes":[{"name":"s","secret":{"secretName":"never"}}]}},
{"metadata":{"namespace":"kube-system","name":"kube-proxy-x","uid":"u4","labels":{"k8s-app":"kube-proxy"}},"status":{"phase":"Running"},"spec":{"serviceAccountName":"kube-proxy","containers":[{"image":"kube-proxy:1"}]}}
]}`

// cache answers as a proxy would that has read all this. What it does not name it has not read.
var cached = map[string]string{
	"/api/v1/nodes/n1":                                                  `{}`,
	"/api/v1/nodes?metadata.name=n1":                                    `{}`,
	"/api/v1/services?spec.clusterIP!=None":                             `{}`,
	"/api/v1/pods?spec.nodeName=n1":                                     pods,
	"/apis/storage.k8s.io/v1/csidrivers":                                `{}`,
	"/apis/node.k8s.io/v1/runtimeclasses":                               `{}`,
	"/apis/storage.k8s.io/v1/csinodes/n1":                               `{}`,
	"/apis/node.k8s.io/v1/runtimeclasses/gvisor":                        `{}`,
	"/api/v1/namespaces/shop/secrets?pull":                              `{}`,
	"/api/v1/namespaces/shop/secrets?env":                               `{}`,
	"/api/v1/namespaces/shop/secrets?key":                               `{}`,
	"/api/v1/namespaces/shop/secrets?projected":                         `{}`,
	"/api/v1/namespaces/shop/secrets?secret":                            `{}`,
	"/api/v1/namespaces/shop/secrets?publish":                           `{}`,
	"/api/v1/namespaces/shop/configmaps?env":                            `{}`,
	"/api/v1/namespaces/shop/configmaps?key":                            `{}`,
	"/api/v1/namespaces/shop/configmaps?config":                         `{}`,
	"/api/v1/namespaces/shop/configmaps?kube-root-ca.crt":               `{}`,
	"/apis/resource.k8s.io/v1/namespaces/shop/resourceclaims/nic-1":     `{}`,
	"/apis/resource.k8s.io/v1/namespaces/shop/resourceclaims/web-gpu-x": `{}`,
	"/api/v1/namespaces/shop/persistentvolumeclaims/data":               `{"spec":{"volumeName":"pv-1"}}`,
	"/api/v1/namespaces/shop/persistentvolumeclaims/web-tmp":            `{"spec":{"volumeName":"pv-2"}}`,
	"/api/v1/persistentvolumes/pv-1":                                    `{"spec":{"csi":{"driver":"disk.example.com","volumeHandle":"vol-1","nodePublishSecretRef":{"namespace":"kube-system","name":"disk"}}}}`,
	"/api/v1/persistentvolumes/pv-2":                                    `{"spec":{"hostPath":{}}}`,
	"/api/v1/namespaces/kube-system/secrets/disk":                       `{}`,
	"/apis/storage.k8s.io/v1/csidrivers/disk.example.com":               `{"spec":{"attachRequired":true}}`,
	"/apis/storage.k8s.io/v1/volumeattachments/csi-67beaef07640111ae4680dbb1618fdc2d7e8b400988a31892dc9e25a33572edd": `{}`,
	"token web ":      `{}`,
	"token web vault": `{}`,
}

// serve answers from a map.
func serve(have map[string]string) func(http.ResponseWriter, *http.Request, request.Request) {
	return func(w http.ResponseWriter, r *http.Request, req request.Request) {
		key := r.URL.Path
		if selected := r.URL.Query().Get("fieldSelector"); selected != "" {
			if name, ok := strings.CutPrefix(selected, "metadata.name="); ok && req.Namespace != "" {
				selected = name
			}
			key += "?" + selected
		}
		code := http.StatusOK
		if req.Subresource == "token" {
			var asked struct {
				Spec struct {
					Audiences      []string
					BoundObjectRef struct{ Kind, Name, UID string }
				}
			}
			raw, _ := io.ReadAll(r.Body)
			if json.Unmarshal(raw, &asked) != nil || asked.Spec.BoundObjectRef.UID != "u1" || asked.Spec.BoundObjectRef.Kind != "Pod" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			key, code = "token "+asked.Spec.BoundObjectRef.Name+" "+strings.Join(asked.Spec.Audiences, ","), http.StatusCreated
		}
		body, ok := have[key]
		switch {
		case !ok:
			code, body = http.StatusServiceUnavailable, `{"message":"holdfast: offline: it was not read"}`
		case body == "gone":
			code, body = http.StatusNotFound, `{"message":"not found"}`
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// proxyScopes are what kube-proxy has read.
func proxyScopes(_ string, r scope.Resource) []scope.Info {
	return []scope.Info{{Key: scope.Key{Identity: "system:serviceaccount:kube-system:kube-proxy@https://issuer", Resource: r}}}
}

func run(t *testing.T, have map[string]string, change ...func(*selftest.Config)) selftest.Result {
	t.Helper()
	cfg := selftest.Config{Node: "n1", Serve: serve(have), Scopes: proxyScopes}
	for _, c := range change {
		c(&cfg)
	}
	r, err := selftest.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestComplete(t *testing.T) {
	r := run(t, cached)
	if !r.Complete || r.Pods != 2 || len(r.Missing) != 0 {
		t.Fatalf("got %+v", r)
	}
	if c := r.Condition(); c.Type != condition.Autonomous || c.Status != condition.True || c.Reason != condition.ReasonBootCovered {
		t.Errorf("condition %+v", c)
	}
}

// TestEachThing takes away one thing after the other: each is missed, by name, and nothing else is.
func TestEachThing(t *testing.T) {
	for gone := range cached {
		have := map[string]string{}
		for path, body := range cached {
			if path != gone {
				have[path] = body
			}
		}
		r := run(t, have)
		if r.Complete || len(r.Missing) == 0 {
			t.Errorf("%s: it is not missed", gone)
			continue
		}
		if len(r.Missing) > 1 {
			t.Errorf("%s: more than it is missed: %v", gone, r.Missing)
		}
		if c := r.Condition(); c.Status != condition.False || c.Reason != condition.ReasonBootIncomplete || !strings.Contains(c.Message, "it was not read") {
			t.Errorf("%s: condition %+v", gone, c)
		}
		// That something does not exist is an answer.
		have[gone] = "gone"
		if strings.HasPrefix(gone, "token") {
			continue
		}
		if r := run(t, have); !r.Complete {
			t.Errorf("%s does not exist: %v", gone, r.Missing)
		}
	}
}

func TestKubeProxyAndImages(t *testing.T) {
	r := run(t, cached, func(c *selftest.Config) {
		c.Scopes = func(string, scope.Resource) []scope.Info { return nil }
	})
	var names []string
	for _, m := range r.Missing {
		names = append(names, m.Pod+" "+m.Kind)
	}
	if want := []string{"kube-system/kube-proxy-x Endpointslices", "kube-system/kube-proxy-x Nodes", "kube-system/kube-proxy-x Services"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	r = run(t, cached, func(c *selftest.Config) {
		c.Images = func(_ context.Context, images []string) ([]string, error) {
			if slices.Contains(images, "kube-proxy:1") {
				return nil, fmt.Errorf("containerd is down")
			}
			if !slices.Equal(images, []string{"init:1", "web:1"}) {
				t.Errorf("asked for %v", images)
			}
			return []string{"web:1"}, nil
		}
	})
	if got := fmt.Sprint(r.Missing); got != "[Image kube-proxy:1 of pod kube-system/kube-proxy-x: containerd is down Image web:1 of pod shop/web: it is not on this node]" {
		t.Errorf("got %s", got)
	}
	many := run(t, map[string]string{})
	if c := many.Condition(); !strings.Contains(c.Message, "and 4 more: see `holdfast-agent selftest`") {
		t.Errorf("condition %+v", c)
	}
}

// TestBrokenOff: an answer that breaks off is none.
func TestBrokenOff(t *testing.T) {
	r := run(t, cached, func(c *selftest.Config) {
		whole := c.Serve
		c.Serve = func(w http.ResponseWriter, r *http.Request, req request.Request) {
			whole(w, r, req)
			if req.Resource.Resource == "services" {
				panic(http.ErrAbortHandler)
			}
		}
	})
	if r.Complete || len(r.Missing) != 1 || r.Missing[0].Kind != "Services" {
		t.Errorf("got %+v", r)
	}
}
