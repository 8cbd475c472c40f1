//go:build e2e

package media_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/media"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

// server is the real API server.
type server struct {
	lab    *lab.Lab
	client *http.Client
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{lab: labtest.Shared(t)}
	config, err := clientcmd.BuildConfigFromFlags("", s.lab.AdminKubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	config.DisableCompression = true
	if s.client, err = rest.HTTPClientFor(config); err != nil {
		t.Fatal(err)
	}
	s.fill(t)
	return s
}

// fill makes the objects of testdata, once.
func (s *server) fill(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	if code, _, _ := s.get(t, "/api/v1/namespaces/media/pods/done", jsonType); code == http.StatusOK {
		return
	}
	if _, err := s.lab.AddNode(ctx, lab.NodeOptions{Name: "media-1", Labels: map[string]string{"node-role.kubernetes.io/edge": ""}}); err != nil {
		t.Fatal(err)
	}
	s.kubectl(t, "apply", "-f", "testdata/definitions.yaml")
	s.kubectl(t, "wait", "--for=condition=Established", "crd/widgets.example.com", "crd/gadgets.example.com")
	s.kubectl(t, "create", "-f", "testdata/objects.yaml")
	text, err := os.ReadFile("testdata/statuses.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var statuses []struct {
		Path   string
		Status map[string]any
	}
	if err := yaml.Unmarshal(text, &statuses); err != nil {
		t.Fatal(err)
	}
	for _, status := range statuses {
		if err := s.lab.Request(ctx, http.MethodPatch, status.Path+"/status", map[string]any{"status": status.Status}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *server) kubectl(t *testing.T, args ...string) {
	t.Helper()
	if out, err := s.lab.Kubectl(t.Context(), args...); err != nil {
		t.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
}

// get asks the API server.
func (s *server) get(t *testing.T, target, accept string) (int, http.Header, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.lab.Server()+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	if accept == "" {
		req.Header["Accept"] = nil
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, body
}

// natives are the encodings in which a collection may be in the cache.
func (s *server) natives(collection string) []scope.Encoding {
	if strings.Contains(collection, "example.com") {
		return []scope.Encoding{scope.JSON}
	}
	return []scope.Encoding{scope.Protobuf, scope.JSON}
}

// hold reads a collection.
func (s *server) hold(t *testing.T, target string, native scope.Encoding) held {
	t.Helper()
	code, _, body := s.get(t, target, map[scope.Encoding]string{scope.JSON: jsonType, scope.Protobuf: protoType}[native])
	if code != http.StatusOK {
		t.Fatalf("%s: status %d: %s", target, code, body)
	}
	return scan(t, native, body)
}

// crd gives the definition of a custom resource as the cache keeps it.
func (s *server) crd(t *testing.T, r scope.Resource) scope.Item {
	t.Helper()
	if r.Group != "example.com" {
		return scope.Item{}
	}
	_, _, body := s.get(t, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"+r.Resource+"."+r.Group, jsonType)
	item, err := wire.Object(scope.JSON, "", "", body)
	if err != nil {
		t.Fatal(err)
	}
	return item
}

// answer is one of ours.
type answer struct {
	code        int
	contentType string
	body        []byte
}

// ours makes an answer of what is held.
func (s *server) ours(t *testing.T, target, accept string, h held) answer {
	t.Helper()
	r := httpGet(t, target, accept)
	req, err := request.Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	format, err := media.Negotiate(r, req, h.native)
	if err != nil {
		return refusal(t, err)
	}
	renderer := media.Renderer{Format: format, Kind: h.list.Kind, Resource: req.Resource, CRD: s.crd(t, req.Resource), Now: time.Now}
	a := answer{code: http.StatusOK, contentType: format.ContentType()}
	if req.Verb == "get" {
		i := slices.IndexFunc(h.items, func(item scope.Item) bool { return item.Name == req.Name })
		a.body, err = renderer.Object(h.items[i])
	} else {
		var b bytes.Buffer
		err = renderer.List(&b, h.list, all(h.items))
		a.body = b.Bytes()
	}
	if err != nil {
		t.Fatalf("%s %q: %v", target, accept, err)
	}
	return a
}

func refusal(t *testing.T, err error) answer {
	t.Helper()
	e, ok := err.(*request.Error)
	if !ok {
		t.Fatalf("got %T %v, want a *request.Error", err, err)
	}
	body, err := json.Marshal(map[string]any{"message": e.Message, "reason": e.Reason})
	if err != nil {
		t.Fatal(err)
	}
	return answer{code: e.Code, contentType: jsonType, body: body}
}
