package offline_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

func TestGetAndList(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	c := s.client(t, nodeUser)
	ctx := t.Context()

	node, err := c.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	if err != nil || node.ResourceVersion != "110" || node.Spec.PodCIDR != "10.0.0.0/24" {
		t.Fatalf("node: %v, %v", node, err)
	}
	pods, err := c.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + nodeName, ResourceVersion: "0"})
	if err != nil || len(pods.Items) != 2 || pods.ResourceVersion != "130" {
		t.Fatalf("pods: %v, %v", pods, err)
	}
	// Narrower queries are answered from what covers them.
	pods, err = c.CoreV1().Pods("default").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + nodeName, LabelSelector: "app in (web, other)"})
	if err != nil || len(pods.Items) != 1 || pods.Items[0].Name != "web" {
		t.Fatalf("pods in default: %v, %v", pods, err)
	}
	pods, err = c.CoreV1().Pods("default").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + nodeName, LabelSelector: "app=none", Limit: 1})
	if err != nil || len(pods.Items) != 0 {
		t.Fatalf("pods that no selector selects: %v, %v", pods, err)
	}
	// What was read is found whatever it was read with.
	if pod, err := c.CoreV1().Pods("kube-system").Get(ctx, "dns", metav1.GetOptions{}); err != nil || pod.UID != "uid-dns" {
		t.Fatalf("pod: %v, %v", pod, err)
	}
	// A missing object is not an empty namespace, and what was never asked for is not missing.
	if _, err := c.CoreV1().Secrets("default").Get(ctx, "db", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	s.replace(scope.Key{Identity: nodeUser, Resource: secretsResource, Namespace: "default", Fields: "metadata.name=gone"}, "SecretList", "95")
	if _, err := c.CoreV1().Secrets("default").Get(ctx, "gone", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("a secret that is known to be gone: %v", err)
	}
	for _, path := range []string{
		"/api/v1/namespaces/default/secrets/other", "/api/v1/namespaces/default/secrets", "/api/v1/pods",
		"/apis/apps/v1/deployments?watch=1", "/apis/example.com/v1/widgets",
	} {
		if resp, body := s.ask(t, nodeUser, "GET", path, ""); resp.StatusCode != 503 || !strings.Contains(body, "was not read by system:node:n1") {
			t.Errorf("%s: got %d %s, want an honest 503", path, resp.StatusCode, body)
		}
	}
}

func TestNewestWordCounts(t *testing.T) {
	s := newSite(t)
	key := scope.Key{Identity: nodeUser, Resource: podsResource, Fields: "spec.nodeName=" + nodeName}
	get := scope.Key{Identity: nodeUser, Resource: podsResource, Namespace: "default", Name: "web"}
	namespace := scope.Key{Identity: nodeUser, Resource: podsResource, Namespace: "default"}
	c := s.client(t, nodeUser)
	version := func() string {
		pod, err := c.CoreV1().Pods("default").Get(t.Context(), "web", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "gone"
		}
		if err != nil {
			t.Fatal(err)
		}
		return pod.ResourceVersion
	}
	s.replace(get, "Pod", "100", item(t, podOf("default", "web", "100"), "v1", "Pod"))
	s.replace(key, "PodList", "150", item(t, podOf("default", "web", "140"), "v1", "Pod"))
	if got := version(); got != "140" {
		t.Fatalf("a list knows a newer object than a GET: got %s", got)
	}
	s.replace(get, "Pod", "155", item(t, podOf("default", "web", "155"), "v1", "Pod"))
	if got := version(); got != "155" {
		t.Fatalf("a GET knows a newer object than a list: got %s", got)
	}
	s.replace(namespace, "PodList", "160")
	if got := version(); got != "gone" {
		t.Fatalf("a newer list that would have it does not have it: got %s", got)
	}
	s.replace(get, "Pod", "170", item(t, podOf("default", "web", "170"), "v1", "Pod"))
	if got := version(); got != "170" {
		t.Fatalf("it was made again: got %s", got)
	}
}

func TestVersions(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	pods := "/api/v1/pods?fieldSelector=spec.nodeName%3D" + nodeName
	for _, test := range []struct {
		query, want string
		code        int
	}{
		{"", `"resourceVersion":"130"`, 200},
		{"&resourceVersion=0", `"resourceVersion":"130"`, 200},
		{"&resourceVersion=129", `"resourceVersion":"130"`, 200},
		{"&resourceVersion=130&resourceVersionMatch=Exact", `"resourceVersion":"130"`, 200},
		{"&resourceVersion=131", `"ResourceVersionTooLarge"`, 504},
		{"&resourceVersion=131&resourceVersionMatch=NotOlderThan", `"Timeout"`, 504},
		{"&resourceVersion=129&resourceVersionMatch=Exact", `"Expired"`, 410},
		{"&resourceVersion=99999999999999999999&resourceVersionMatch=NotOlderThan", `invalid resource version`, 400},
		{"&limit=1&continue=abc", `"Expired"`, 410},
		{"&watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=131&allowWatchBookmarks=true", "ResourceVersionTooLarge", 504},
		{"&watch=1&resourceVersion=129", `"reason":"Expired"`, 200},
	} {
		resp, body := s.ask(t, nodeUser, "GET", pods+test.query, "", "Accept", "application/json")
		if resp.StatusCode != test.code || !strings.Contains(body, test.want) {
			t.Errorf("%s: got %d %s, want %d with %s", test.query, resp.StatusCode, body, test.code, test.want)
		}
		if resp.StatusCode == 504 && resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", test.query)
		}
	}
	resp, body := s.ask(t, nodeUser, "GET", "/api/v1/nodes/n1?resourceVersion=111", "", "Accept", "application/json")
	if resp.StatusCode != 504 {
		t.Errorf("GET of a newer state: %d %s", resp.StatusCode, body)
	}
}

func TestForms(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	pods := "/api/v1/pods?fieldSelector=spec.nodeName%3D" + nodeName
	for _, test := range []struct {
		path, accept, want, contentType string
		code                            int
	}{
		{pods, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json", `"kind":"Table"`, "application/json", 200},
		{pods, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", `"kind":"PartialObjectMetadataList"`, "application/json", 200},
		{"/api/v1/namespaces/default/pods/web", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", `"uid":"uid-web"`, "application/json", 200},
		{pods, "application/vnd.kubernetes.protobuf", "k8s\x00", "application/vnd.kubernetes.protobuf", 200},
		{pods, "application/yaml", "kind: PodList", "application/yaml", 200},
		{pods, "application/cbor", "NotAcceptable", "application/json", 406},
		{"/api/v1/namespaces/default/pods/web", "", `"kind":"Pod"`, "application/json", 200},
		{"/api/v1/namespaces/default/pods/web/status", "", `"kind":"Pod"`, "application/json", 200},
	} {
		resp, body := s.ask(t, nodeUser, "GET", test.path, "", "Accept", test.accept)
		if resp.StatusCode != test.code || !strings.Contains(body, test.want) || resp.Header.Get("Content-Type") != test.contentType {
			t.Errorf("%s as %s: got %d %s %q", test.path, test.accept, resp.StatusCode, resp.Header.Get("Content-Type"), body)
		}
		if test.code == 200 && (resp.Header.Get("Warning") != `299 - "holdfast: offline; as of 2026-05-01T12:00:00Z"` || resp.Header.Get("Holdfast-Cache-Age") != "90") {
			t.Errorf("%s: Warning %q, age %q", test.path, resp.Header.Get("Warning"), resp.Header.Get("Holdfast-Cache-Age"))
		}
	}
}

// TestStrangers: a caller sees offline only what it was allowed to see online.
func TestStrangers(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	s.PutDocument("", "/api application/json", scope.Document{ContentType: "application/json", Body: []byte(`{"kind":"APIVersions"}`), Read: epoch})
	stranger := "system:serviceaccount:default:web@https://issuer"
	for _, test := range []struct{ user, method, path, body string }{
		{stranger, "GET", "/api/v1/namespaces/default/secrets/db", ""},
		{stranger, "GET", "/api/v1/namespaces/default/secrets", ""},
		{stranger, "GET", "/api/v1/secrets?watch=1", ""},
		{stranger, "GET", "/api/v1/nodes/n1", ""},
		{stranger, "GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", ""},
		{stranger, "GET", "/api/v1/namespaces/default/pods/web/log", ""},
		{stranger, "POST", "/api/v1/namespaces/default/pods/web/exec?command=sh&stdout=true", ""},
		{stranger, "PATCH", "/api/v1/namespaces/default/pods/web/status", `{"status":{"phase":"Failed"}}`},
		{stranger, "PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", `{}`},
		{stranger, "POST", "/api/v1/namespaces/default/events", `{"metadata":{"name":"e"}}`},
		{stranger, "POST", "/api/v1/namespaces/default/serviceaccounts/web/token", `{}`},
		{nodeUser, "GET", "/api/v1/namespaces/other/secrets/db", ""},
		{nodeUser, "GET", "/api/v1/namespaces/default/secrets/../secrets", ""},
		{nodeUser, "DELETE", "/api/v1/namespaces/default/pods/web", ""},
		{nodeUser, "POST", "/api/v1/namespaces/default/pods", `{}`},
		{nodeUser, "POST", "/api/v1/namespaces/default/pods/web/eviction", `{}`},
		{nodeUser, "PATCH", "/api/v1/nodes/n1", `{"spec":{"unschedulable":true}}`},
		{nodeUser, "POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests", `{}`},
		{nodeUser, "PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler", `{}`},
		{nodeUser, "PUT", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n2", `{}`},
		{nodeUser, "DELETE", "/api/v1/pods", ""},
		{nodeUser, "GET", "/metrics", ""},
		{nodeUser, "GET", "/logs/", ""},
	} {
		resp, body := s.ask(t, test.user, test.method, test.path, test.body, "Content-Type", "application/json")
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "1" {
			t.Errorf("%s %s as %s: got %d %s, Retry-After %q", test.method, test.path, test.user, resp.StatusCode, body, resp.Header.Get("Retry-After"))
		}
		if !strings.Contains(body, `"kind":"Status"`) || !strings.Contains(body, "holdfast: offline") || strings.Contains(body, "aHVudGVyMg") {
			t.Errorf("%s %s: not an honest Status: %s", test.method, test.path, body)
		}
	}
	resp, body := s.ask(t, nodeUser, "GET", "/api/v1/nodes/n1", "", "Impersonate-User", "admin")
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("impersonation: %d %s", resp.StatusCode, body)
	}
	// What the API offers is the same for everyone.
	if resp, body := s.ask(t, stranger, "GET", "/api", ""); resp.StatusCode != 200 || !strings.Contains(body, "APIVersions") {
		t.Errorf("/api: %d %s", resp.StatusCode, body)
	}
	if s.writes != 0 {
		t.Errorf("%d writes were kept", s.writes)
	}
}

// TestUnreadable: what cannot be read is an error, never shorter.
func TestUnreadable(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	s.broken = "pods"
	for _, path := range []string{"/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", "/api/v1/namespaces/default/pods/web", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&watch=1"} {
		resp, body := s.ask(t, nodeUser, "GET", path, "")
		if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "on fire") {
			t.Errorf("%s: got %d %s", path, resp.StatusCode, body)
		}
	}
}

// TestDamagedScope: an older scope may still have the object, but cannot say that there is none.
func TestDamagedScope(t *testing.T) {
	s := newSite(t)
	s.damaged = scope.Key{Identity: nodeUser, Resource: podsResource, Namespace: "default"}
	s.replace(s.damaged, "PodList", "200")
	s.replace(scope.Key{Identity: nodeUser, Resource: podsResource}, "PodList", "150", item(t, podOf("default", "web", "140"), "v1", "Pod"))
	if resp, body := s.ask(t, nodeUser, "GET", "/api/v1/namespaces/default/pods/web", ""); resp.StatusCode != 200 || !strings.Contains(body, "uid-web") {
		t.Errorf("a pod that an older scope has: %d %s", resp.StatusCode, body)
	}
	if resp, body := s.ask(t, nodeUser, "GET", "/api/v1/namespaces/default/pods/new", ""); resp.StatusCode != 503 || !strings.Contains(body, "on fire") {
		t.Errorf("a pod that an older scope does not have: %d %s", resp.StatusCode, body)
	}
}

func TestDocuments(t *testing.T) {
	s := newSite(t)
	r := func(path, accept string) (*http.Response, string) {
		return s.ask(t, "anyone", "GET", path, "", "Accept", accept)
	}
	keep := func(path, contentType, etag, body string) {
		req, _ := http.NewRequest("GET", "https://x"+path, nil)
		identity, where, ok := s.handler.Document(req, parse(t, req), caller("anyone"), contentType)
		if !ok {
			t.Fatalf("%s is not to be kept", path)
		}
		s.PutDocument(identity, where, scope.Document{ContentType: contentType, ETag: etag, Body: []byte(body), Read: epoch})
	}
	aggregated := "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	keep("/apis", aggregated, `"A"`, "aggregated")
	keep("/apis", "application/json", "", "plain")
	keep("/openapi/v3/apis/apps/v1?hash=1", "application/json", "", "schema")
	keep("/openapi/v2", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", `"B"`, "proto")
	keep("/version", "application/json", "", `{"major":"1"}`)
	for _, test := range []struct{ path, accept, want string }{
		{"/apis", aggregated + ",application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json", "aggregated"},
		{"/apis", "application/json", "plain"},
		{"/apis/", "*/*", "plain"},
		{"/openapi/v3/apis/apps/v1?hash=1", "application/json", "schema"},
		{"/openapi/v2", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "proto"},
		{"/version", "", `{"major":"1"}`},
		{"/version?timeout=32s", "", `{"major":"1"}`},
		{"/apis?timeout=32s", aggregated, "aggregated"},
		{"/openapi/v3/apis/apps/v1?hash=1&timeout=32s", "application/json", "schema"},
		{"/healthz", "", "ok"},
		{"/readyz", "", "ok"},
		{"/livez/ping", "", "ok"},
	} {
		if resp, body := r(test.path, test.accept); resp.StatusCode != 200 || body != test.want {
			t.Errorf("%s as %s: got %d %q, want %q", test.path, test.accept, resp.StatusCode, body, test.want)
		}
	}
	if resp, _ := s.ask(t, "anyone", "GET", "/apis", "", "Accept", aggregated, "If-None-Match", `"A"`); resp.StatusCode != 304 || resp.Header.Get("ETag") != `"A"` {
		t.Errorf("If-None-Match: got %d", resp.StatusCode)
	}
	if resp, _ := r("/openapi/v3/apis/apps/v1?hash=2", "application/json"); resp.StatusCode != 503 {
		t.Errorf("another hash: got %d", resp.StatusCode)
	}
	// What is kept compressed goes out so to who takes it.
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	fmt.Fprint(z, "long schema")
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	s.PutDocument("", "/openapi/v3 application/json", scope.Document{ContentType: "application/json", Body: zipped.Bytes(), Gzipped: true, Read: epoch})
	for encoding, want := range map[string]string{"gzip": zipped.String(), "identity": "long schema", "br": "long schema"} {
		resp, body := s.ask(t, "anyone", "GET", "/openapi/v3", "", "Accept", "application/json", "Accept-Encoding", encoding)
		if body != want || (resp.Header.Get("Content-Encoding") == "gzip") != (encoding == "gzip") || resp.Header.Get("Vary") != "Accept, Accept-Encoding" {
			t.Errorf("%s: got %q, %v", encoding, body, resp.Header)
		}
	}
	s.PutDocument("", "/openapi/v3 application/json", scope.Document{ContentType: "application/json", Body: []byte("not compressed"), Gzipped: true, Read: epoch})
	if resp, body := s.ask(t, "anyone", "GET", "/openapi/v3", "", "Accept", "application/json", "Accept-Encoding", "identity"); resp.StatusCode != 503 {
		t.Errorf("one that cannot be decompressed: %d %s", resp.StatusCode, body)
	}
	if _, _, ok := s.handler.Document(httpGet("/metrics"), parse(t, httpGet("/metrics")), caller("anyone"), "text/plain"); ok {
		t.Error("/metrics would be kept")
	}
	// A Table that no scope can be made into is that of the one who asked.
	table := "application/json;as=Table;v=v1;g=meta.k8s.io"
	keep("/apis/example.com/v1/widgets", table, "", `{"kind":"Table"}`)
	if resp, _ := r("/apis/example.com/v1/widgets", table+",application/json"); resp.StatusCode != 200 {
		t.Errorf("kept table: got %d", resp.StatusCode)
	}
	if resp, _ := s.ask(t, "somebody", "GET", "/apis/example.com/v1/widgets", "", "Accept", table); resp.StatusCode != 503 {
		t.Errorf("somebody else's table: got %d", resp.StatusCode)
	}
}

// TestNobodyGoesBackInTime: who was told that the cache is behind it asks for any version at all. On the same connection that is
// still not an older one.
func TestNobodyGoesBackInTime(t *testing.T) {
	s := newSite(t)
	s.boot(t)
	pods := "/api/v1/pods?fieldSelector=spec.nodeName%3D" + nodeName
	code := func(query string) int {
		resp, _ := s.ask(t, nodeUser, "GET", pods+query, "")
		return resp.StatusCode
	}
	if got := code(""); got != 200 {
		t.Fatalf("before: %d", got)
	}
	if got := code("&resourceVersion=200"); got != 504 {
		t.Fatalf("a version that is newer than the cache: %d", got)
	}
	for _, query := range []string{"", "&resourceVersion=0", "&watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"} {
		if got := code(query); got != 504 {
			t.Errorf("%q: got %d, want 504", query, got)
		}
	}
	s.handler.Online() // what upstream says counts again: it may have been restored from a backup
	s.handler.Offline()
	if got := code(""); got != 200 {
		t.Errorf("after the link was back: %d", got)
	}
}
