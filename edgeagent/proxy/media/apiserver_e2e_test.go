//go:build e2e

package media_test

import (
	"encoding/json"
	"flag"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/media"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
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
						last := held.items[len(held.items)-1]
						s.compare(t, path.Join(collection, last.Name), a.accept, a.query, held)
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
	for _, collection := range []string{"/api/v1/namespaces/media/pods", "/apis/example.com/v1/namespaces/media/widgets"} {
		for _, accept := range []string{
			jsonType, protoType + ";stream=watch," + jsonType, tableV1 + "," + jsonType, jsonType + metadataOne, protoType + metadataOne, "application/yaml",
			"application/cbor",
		} {
			t.Run(path.Base(collection)+" "+accept, func(t *testing.T) {
				t.Parallel()
				s.compareWatch(t, collection, accept)
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
