//go:build e2e

package media_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"path"
	"reflect"
	"regexp"
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

// paths are the collections that are compared. Those of example.com are custom.
var paths = []string{
	"/api/v1/namespaces", "/api/v1/nodes", "/api/v1/persistentvolumes",
	"/api/v1/namespaces/media/pods", "/api/v1/namespaces/media/services", "/api/v1/namespaces/media/configmaps",
	"/api/v1/namespaces/media/secrets", "/api/v1/namespaces/media/serviceaccounts", "/api/v1/namespaces/media/persistentvolumeclaims",
	"/api/v1/namespaces/media/endpoints", "/api/v1/namespaces/media/events", "/api/v1/namespaces/media/limitranges",
	"/apis/events.k8s.io/v1/namespaces/media/events", "/apis/discovery.k8s.io/v1/namespaces/media/endpointslices",
	"/apis/coordination.k8s.io/v1/namespaces/media/leases",
	"/apis/apps/v1/namespaces/media/deployments", "/apis/apps/v1/namespaces/media/replicasets", "/apis/apps/v1/namespaces/media/daemonsets",
	"/apis/apps/v1/namespaces/media/statefulsets", "/apis/apps/v1/namespaces/media/controllerrevisions",
	"/apis/batch/v1/namespaces/media/jobs", "/apis/batch/v1/namespaces/media/cronjobs",
	"/apis/networking.k8s.io/v1/namespaces/media/ingresses", "/apis/networking.k8s.io/v1/ingressclasses",
	"/apis/networking.k8s.io/v1/namespaces/media/networkpolicies", "/apis/networking.k8s.io/v1/servicecidrs",
	"/apis/networking.k8s.io/v1/ipaddresses",
	"/apis/storage.k8s.io/v1/storageclasses", "/apis/storage.k8s.io/v1/csidrivers", "/apis/storage.k8s.io/v1/csinodes",
	"/apis/storage.k8s.io/v1/volumeattachments", "/apis/node.k8s.io/v1/runtimeclasses", "/apis/scheduling.k8s.io/v1/priorityclasses",
	"/apis/policy/v1/namespaces/media/poddisruptionbudgets", "/apis/rbac.authorization.k8s.io/v1/namespaces/media/roles",
	"/apis/rbac.authorization.k8s.io/v1/namespaces/media/rolebindings", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
	"/apis/certificates.k8s.io/v1/certificatesigningrequests",
	"/apis/example.com/v1/namespaces/media/widgets", "/apis/example.com/v1/namespaces/media/gadgets",
}

const (
	tableV1      = "application/json;as=Table;v=v1;g=meta.k8s.io"
	tableV1beta1 = "application/json;as=Table;v=v1beta1;g=meta.k8s.io"
	metadataList = ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	metadataOne  = ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	jsonType     = "application/json"
	protoType    = "application/vnd.kubernetes.protobuf"
)

// accepts are the Accept headers that are compared for every collection, and the query with each.
var accepts = []struct{ accept, query string }{
	{"", ""},
	{"*/*", ""},
	{jsonType, ""},
	{protoType, ""},
	{protoType + "," + jsonType, ""},
	{jsonType + ";q=0.5," + protoType + ";q=0.4", ""},
	{"application/yaml", ""},
	{"application/*", "pretty=true"},
	{tableV1 + "," + tableV1beta1 + "," + jsonType, ""},
	{tableV1beta1, ""},
	{tableV1, "includeObject=Object"},
	{tableV1, "includeObject=None"},
	{tableV1, "includeObject=Nonsense"},
	{protoType + ";as=Table;v=v1;g=meta.k8s.io", ""},
	{jsonType + ";as=Table;v=v9;g=meta.k8s.io," + jsonType, ""},
	{jsonType + metadataList, ""},
	{jsonType + metadataOne, ""},
	{protoType + metadataList + "," + jsonType + metadataList, ""},
	{protoType + metadataOne, ""},
	{jsonType + ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1beta1", ""},
	{"application/cbor", ""},
	{"application/cbor," + jsonType, ""},
	{"text/plain;q=0.9, text/html", ""},
	{jsonType + ";stream=watch", ""},
	{jsonType + ";stream=other", ""},
	{"application/yaml;stream=watch," + jsonType, ""},
	{jsonType + ";sv=v1", ""},
	{jsonType + ";sv=v2," + protoType, ""},
	{"garbage", ""},
}

// TestAgainstAPIServer asks a real API server, and makes the same answers out of objects as the cache keeps them.
func TestAgainstAPIServer(t *testing.T) {
	s := newServer(t)
	for _, collection := range paths {
		t.Run(strings.ReplaceAll(strings.TrimPrefix(collection, "/"), "/", "."), func(t *testing.T) {
			for _, native := range s.natives(collection) {
				held := s.hold(t, collection, native)
				if len(held.items) == 0 && !strings.HasSuffix(collection, "certificatesigningrequests") {
					t.Fatalf("%s is empty: there is nothing to compare", collection)
				}
				for _, a := range accepts {
					s.compare(t, collection, a.accept, a.query, held)
					if len(held.items) > 0 {
						s.compare(t, path.Join(collection, held.items[0].Name), a.accept, a.query, held)
					}
				}
			}
		})
	}
}

// record makes testdata/recorded.json anew, for the test that needs no API server.
var record = flag.Bool("record", false, "write testdata/recorded.json")

// TestRecord keeps answers of the API server.
func TestRecord(t *testing.T) {
	s := newServer(t)
	var recorded recording
	for _, collection := range []string{
		"/api/v1/nodes", "/api/v1/namespaces/media/pods", "/api/v1/namespaces/media/services", "/api/v1/namespaces/media/configmaps",
		"/api/v1/namespaces/media/events", "/api/v1/persistentvolumes", "/api/v1/namespaces/media/limitranges",
		"/apis/apps/v1/namespaces/media/deployments", "/apis/batch/v1/namespaces/media/jobs",
		"/apis/discovery.k8s.io/v1/namespaces/media/endpointslices", "/apis/storage.k8s.io/v1/storageclasses",
		"/apis/example.com/v1/namespaces/media/widgets", "/apis/example.com/v1/namespaces/media/gadgets",
	} {
		c := recordedCollection{Path: collection}
		_, _, c.List = s.get(t, collection, jsonType)
		_, _, c.Table = s.get(t, collection+"?includeObject=None", tableV1)
		req, err := request.Parse(httpGet(t, collection, jsonType))
		if err != nil {
			t.Fatal(err)
		}
		c.CRD = s.crd(t, req.Resource).Raw
		recorded.Collections = append(recorded.Collections, c)
	}
	if !*record {
		compareRecording(t, recorded)
		return
	}
	text, err := json.MarshalIndent(recorded, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("testdata/recorded.json", append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestWatchesAgainstAPIServer does the same for watches.
func TestWatchesAgainstAPIServer(t *testing.T) {
	s := newServer(t)
	for _, collection := range []string{"/api/v1/namespaces/media/pods", "/api/v1/namespaces/media/configmaps", "/apis/example.com/v1/namespaces/media/widgets"} {
		for _, accept := range []string{
			jsonType, protoType + ";stream=watch," + jsonType, tableV1 + "," + jsonType, jsonType + metadataOne, protoType + metadataOne, "application/yaml",
			"application/cbor",
		} {
			t.Run(path.Base(collection)+" "+accept, func(t *testing.T) {
				t.Parallel()
				for _, native := range s.natives(collection) {
					held := s.hold(t, collection, native)
					s.compareWatch(t, collection, accept, held)
				}
			})
		}
	}
}

// TestErrorsAgainstAPIServer compares what is refused: list options, selectors, fields.
func TestErrorsAgainstAPIServer(t *testing.T) {
	s := newServer(t)
	for _, target := range []string{
		"/api/v1/pods?resourceVersionMatch=Exact", "/api/v1/pods?resourceVersionMatch=Exact&resourceVersion=0",
		"/api/v1/pods?resourceVersionMatch=Other&resourceVersion=1", "/api/v1/pods?sendInitialEvents=true",
		"/api/v1/pods?sendInitialEvents=&resourceVersionMatch=x", "/api/v1/pods?watch=1&sendInitialEvents=true",
		"/api/v1/pods?watch=1&resourceVersionMatch=NotOlderThan&resourceVersion=5",
		"/api/v1/pods?watch=1&resourceVersionMatch=Exact&resourceVersion=5&continue=x", "/api/v1/pods?limit=x", "/api/v1/pods?timeoutSeconds=1.5",
		"/api/v1/pods?labelSelector=a%3D%3D%3Db", "/api/v1/pods?labelSelector=-", "/api/v1/pods?fieldSelector=a",
		"/api/v1/pods?fieldSelector=a%3Db%3Dc", "/api/v1/pods?fieldSelector=spec.nodeNam%3Dx", "/api/v1/nodes?fieldSelector=status.phase%3Dx",
		"/api/v1/configmaps?fieldSelector=data%3Dx", "/api/v1/services?fieldSelector=spec.x%3D1", "/api/v1/events?fieldSelector=x%3D1",
		"/api/v1/secrets?fieldSelector=x%3D1", "/apis/batch/v1/jobs?fieldSelector=x%3D1", "/apis/apps/v1/deployments?fieldSelector=spec.x%3D1",
		"/apis/example.com/v1/widgets?fieldSelector=spec.x%3D1", "/apis/certificates.k8s.io/v1/certificatesigningrequests?fieldSelector=x%3D1",
		"/apis/coordination.k8s.io/v1/leases?fieldSelector=x%3D1", "/api/v1/namespaces?fieldSelector=x%3D1",
		"/api/v1/watch/namespaces/media/pods/running?fieldSelector=metadata.name%3Dother",
		"/api/v1/pods?fieldSelector=metadata.name%3Dx&resourceVersionMatch=no",
	} {
		t.Run(target, func(t *testing.T) {
			code, _, body := s.get(t, target, jsonType)
			var want struct{ Message, Reason string }
			if err := json.Unmarshal(body, &want); err != nil {
				t.Fatalf("status %d: %v in %s", code, err, body)
			}
			if code < 400 {
				t.Fatalf("the API server takes it: %d", code)
			}
			got := s.refuse(t, target)
			if got == nil {
				t.Fatalf("got no error, want %d %s: %s", code, want.Reason, want.Message)
			}
			if got.Code != code || got.Reason != want.Reason || got.Message != want.Message {
				t.Errorf("got  %d %s: %s\nwant %d %s: %s", got.Code, got.Reason, got.Message, code, want.Reason, want.Message)
			}
		})
	}
}

// TestSelectorsAgainstAPIServer compares what selectors select.
func TestSelectorsAgainstAPIServer(t *testing.T) {
	s := newServer(t)
	for _, target := range []string{
		"/api/v1/namespaces/media/pods?fieldSelector=spec.nodeName%3Dmedia-1", "/api/v1/namespaces/media/pods?fieldSelector=spec.host%3Dmedia-1",
		"/api/v1/namespaces/media/pods?fieldSelector=spec.nodeName%3D", "/api/v1/namespaces/media/pods?fieldSelector=status.phase!%3DRunning",
		"/api/v1/namespaces/media/pods?fieldSelector=spec.hostNetwork%3Dtrue", "/api/v1/namespaces/media/pods?fieldSelector=spec.hostNetwork%3Dfalse",
		"/api/v1/namespaces/media/pods?fieldSelector=status.podIP%3D192.0.2.20", "/api/v1/namespaces/media/pods?fieldSelector=status.podIPs%3D192.0.2.20",
		"/api/v1/namespaces/media/pods?fieldSelector=spec.restartPolicy%3DNever,metadata.name!%3Dx",
		"/api/v1/namespaces/media/pods?labelSelector=app,tier+notin+(front)", "/api/v1/namespaces/media/pods?labelSelector=tier+in+(front,back)",
		"/api/v1/namespaces/media/pods?labelSelector=!app", "/api/v1/namespaces/media/services?fieldSelector=spec.clusterIP%3DNone",
		"/api/v1/namespaces/media/services?fieldSelector=spec.clusterIP!%3DNone", "/api/v1/namespaces/media/services?fieldSelector=spec.type%3DNodePort",
		"/api/v1/namespaces/media/secrets?fieldSelector=type%3Dkubernetes.io/basic-auth", "/api/v1/nodes?fieldSelector=spec.unschedulable%3Dfalse",
		"/api/v1/namespaces?fieldSelector=status.phase%3DActive", "/api/v1/namespaces/media/events?fieldSelector=involvedObject.kind%3DPod",
		"/api/v1/namespaces/media/events?fieldSelector=source%3Dkubelet,type%3DNormal",
		"/apis/events.k8s.io/v1/namespaces/media/events?fieldSelector=regarding.kind%3DPod",
		"/apis/batch/v1/namespaces/media/jobs?fieldSelector=status.successful%3D1",
		"/apis/example.com/v1/namespaces/media/widgets?fieldSelector=spec.color%3Dblue",
		"/apis/example.com/v1/namespaces/media/widgets?fieldSelector=spec.count%3D", "/apis/example.com/v1/namespaces/media/widgets?fieldSelector=spec.count%3D3",
		"/apis/example.com/v1/namespaces/media/widgets?labelSelector=size",
	} {
		t.Run(target, func(t *testing.T) {
			collection, _, _ := strings.Cut(target, "?")
			req, err := request.Parse(httpGet(t, target, jsonType))
			if err != nil {
				t.Fatal(err)
			}
			want := names(s.hold(t, target, scope.JSON).items)
			for _, native := range s.natives(collection) {
				all := s.hold(t, collection, native)
				match, err := media.Compile(req.Key("x"), all.list.Kind, s.crd(t, req.Resource))
				if err != nil {
					t.Fatal(err)
				}
				var got []scope.Item
				for _, item := range all.items {
					if ok, err := match(item); err != nil {
						t.Fatal(err)
					} else if ok {
						got = append(got, item)
					}
				}
				if !slices.Equal(names(got), want) {
					t.Errorf("from %d: got %v, want %v", native, names(got), want)
				}
			}
		})
	}
}

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

// compare asks both.
func (s *server) compare(t *testing.T, target, accept, query string, h held) {
	t.Helper()
	if query != "" {
		target += "?" + query
	}
	code, head, body := s.get(t, target, accept)
	got := s.ours(t, target, accept, h)
	if better(target, accept, got.code, code) {
		return
	}
	if got.code != code {
		t.Errorf("%s %q from %d: got status %d %s, want %d %s", target, accept, h.native, got.code, short(got.body), code, short(body))
		return
	}
	if code != http.StatusOK {
		compareRefusals(t, target+" "+accept, got.body, body, head)
		return
	}
	if want := head.Get("Content-Type"); got.contentType != want {
		t.Errorf("%s %q: got Content-Type %s, want %s", target, accept, got.contentType, want)
	}
	if strings.Contains(got.contentType, "yaml") {
		got.body, body = toJSON(t, got.body), toJSON(t, body)
	}
	if strings.Contains(got.contentType, "protobuf") {
		compareProtobuf(t, target+" "+accept, got.body, body)
		return
	}
	compareJSON(t, target+" "+accept, got.body, body)
}

// better names where ours is meant to differ.
func better(target, accept string, got, want int) bool {
	switch resource := collection(target); {
	case resource == "daemonsets":
		// apps/v1 shows the annotation deprecated.daemonset.template.generation; the type that kube-apiserver takes the metadata
		// from does not have it.
		return strings.Contains(accept, "as=") && want == http.StatusOK && !strings.Contains(target, "includeObject")
	case resource == "widgets" || resource == "gadgets":
		// A wrong request is no failure of the server.
		return strings.Contains(accept, "MetadataList") && got == http.StatusNotAcceptable && want == http.StatusInternalServerError
	}
	return false
}

// collection gives the resource of a path.
func collection(target string) string {
	for part := range strings.SplitSeq(target, "/") {
		part, _, _ = strings.Cut(part, "?")
		if part == "daemonsets" || part == "widgets" || part == "gadgets" {
			return part
		}
	}
	return ""
}

// short is the beginning of a body.
func short(body []byte) []byte { return body[:min(len(body), 400)] }

func toJSON(t *testing.T, text []byte) []byte {
	t.Helper()
	converted, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return converted
}

// compareRefusals compares reasons and messages. The API server's names its Go type where ours cannot.
func compareRefusals(t *testing.T, what string, got, want []byte, head http.Header) {
	t.Helper()
	var g, w struct{ Message, Reason string }
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatal(err)
	}
	switch kind := head.Get("Content-Type"); kind {
	case protoType:
		item, err := wire.Object(scope.Protobuf, "", "", want)
		if err != nil {
			t.Fatalf("%s: %v in %q", what, err, want)
		}
		status, err := wire.ReadStatus(item)
		if err != nil {
			t.Fatalf("%s: %v in %q", what, err, want)
		}
		w.Message, w.Reason = status.Message, status.Reason
	case "application/yaml":
		want = toJSON(t, want)
		fallthrough
	default:
		if err := json.Unmarshal(want, &w); err != nil {
			t.Fatalf("%s: %v in %q", what, err, want)
		}
	}
	w.Message = regexp.MustCompile(` \(\*[\w.]+\)$`).ReplaceAllString(w.Message, "")
	if g != w {
		t.Errorf("%s: got %+v, want %+v", what, g, w)
	}
}

// compareProtobuf compares bodies byte for byte, but for the version of a list.
func compareProtobuf(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	if one, err := wire.Object(scope.Protobuf, "", "", want); err == nil && !strings.HasSuffix(one.Kind, "List") {
		t.Errorf("%s: got\n%q, want\n%q", what, got, want)
		return
	}
	g, w := scan(t, scope.Protobuf, got), scan(t, scope.Protobuf, want)
	if g.list.Kind != w.list.Kind || len(g.items) != len(w.items) {
		t.Errorf("%s: got %v, want %v", what, g.list, w.list)
		return
	}
	for i := range g.items {
		if !bytes.Equal(g.items[i].Raw, w.items[i].Raw) {
			t.Errorf("%s: got\n%q, want\n%q", what, g.items[i].Raw, w.items[i].Raw)
		}
	}
}

// compareWatch asks both for a watch that begins with what is there.
func (s *server) compareWatch(t *testing.T, collection, accept string, h held) {
	t.Helper()
	target := collection + "?watch=1&resourceVersion=0&timeoutSeconds=1"
	code, head, body := s.get(t, target, accept)
	r := httpGet(t, target, accept)
	req, err := request.Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	format, err := media.Negotiate(r, req, h.native)
	if err != nil {
		refused := refusal(t, err)
		if refused.code != code {
			t.Errorf("got status %d, want %d: %s", refused.code, code, body)
		}
		compareRefusals(t, target+" "+accept, refused.body, body, head)
		return
	}
	if got, want := format.ContentType(), head.Get("Content-Type"); got != want {
		t.Errorf("got Content-Type %s, want %s", got, want)
	}
	renderer := media.Renderer{Format: format, Kind: h.list.Kind, Resource: req.Resource, CRD: s.crd(t, req.Resource), Now: time.Now}
	var mine []byte
	for _, item := range h.items {
		if mine, err = renderer.Frame(mine, wire.Added, item); err != nil {
			t.Fatal(err)
		}
	}
	if format.Encoding == scope.Protobuf {
		compareFrames(t, mine, body)
		return
	}
	compareLines(t, mine, body)
}

// compareFrames compares streams in protobuf, whatever the order.
func compareFrames(t *testing.T, got, want []byte) {
	t.Helper()
	g, w := frames(t, got), frames(t, want)
	if len(g) == 0 || !reflect.DeepEqual(g, w) {
		t.Errorf("got\n%q, want\n%q", g, w)
	}
}

func frames(t *testing.T, stream []byte) map[string]string {
	t.Helper()
	all := map[string]string{}
	scanner := wire.NewWatchScanner(scope.Protobuf, wire.Limits{}, func(f wire.Frame) error {
		all[f.Item.Name] = string(f.Raw)
		return nil
	})
	if _, err := scanner.Write(stream); err != nil {
		t.Fatal(err)
	}
	if err := scanner.Close(); err != nil {
		t.Fatal(err)
	}
	return all
}

// compareLines compares streams in JSON, whatever the order. Of Tables the first alone has columns.
func compareLines(t *testing.T, got, want []byte) {
	t.Helper()
	g, columns := lines(t, got)
	w, wantColumns := lines(t, want)
	if len(g) == 0 || !reflect.DeepEqual(g, w) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !reflect.DeepEqual(columns, wantColumns) {
		t.Errorf("got columns\n%v\nwant\n%v", columns, wantColumns)
	}
}

func lines(t *testing.T, stream []byte) (map[string]any, []any) {
	t.Helper()
	all, columns := map[string]any{}, []any{}
	for line := range bytes.Lines(stream) {
		var frame struct {
			Type   string
			Object json.RawMessage
		}
		if err := json.Unmarshal(line, &frame); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		o, _ := plain(t, frame.Object).(map[string]any)
		if o["kind"] == "Table" {
			columns = append(columns, o["columnDefinitions"])
			delete(o, "columnDefinitions")
			all[o["rows"].([]any)[0].(map[string]any)["cells"].([]any)[0].(string)] = o
			continue
		}
		all[o["metadata"].(map[string]any)["name"].(string)] = []any{frame.Type, o}
	}
	return all, columns
}

// refuse gives the error that the proxy answers with, or nil.
func (s *server) refuse(t *testing.T, target string) *request.Error {
	t.Helper()
	req, err := request.Parse(httpGet(t, target, jsonType))
	if err == nil {
		kind := s.hold(t, req.Path, scope.JSON).list.Kind
		_, err = media.Compile(req.Key("x"), kind, s.crd(t, req.Resource))
	}
	if err == nil {
		return nil
	}
	e, ok := err.(*request.Error)
	if !ok {
		t.Fatalf("got %T %v, want a *request.Error", err, err)
	}
	return e
}

func names(items []scope.Item) []string {
	var all []string
	for _, item := range items {
		all = append(all, item.Name)
	}
	slices.Sort(all)
	return all
}
