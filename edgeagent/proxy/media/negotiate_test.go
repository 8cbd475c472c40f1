package media

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

const (
	kubelet = "application/vnd.kubernetes.protobuf,application/json"
	kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
	// informers is what client-go's metadata informers send for lists.
	informers = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1," +
		"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
)

// TestNegotiate has answers of kube-apiserver 1.37; its e2e twin asks a real one.
func TestNegotiate(t *testing.T) {
	const pods, widgets = "/api/v1/pods", "/apis/example.com/v1/widgets"
	for _, test := range []struct {
		target, accept string
		native         scope.Encoding
		want           string
		as             As
	}{
		{pods, "", scope.Protobuf, "application/json", Whole},
		{pods, "*/*", scope.Protobuf, "application/json", Whole},
		{pods, kubelet, scope.JSON, "application/vnd.kubernetes.protobuf", Whole},
		{pods, kubelet, scope.Protobuf, "application/vnd.kubernetes.protobuf", Whole},
		{pods + "?watch=1", kubelet, scope.JSON, "application/vnd.kubernetes.protobuf;stream=watch", Whole},
		{pods + "?watch=1", "application/json;stream=watch", scope.Protobuf, "application/json", Whole},
		{pods, "application/json;q=0.1, application/vnd.kubernetes.protobuf;q=0.9", scope.JSON, "application/vnd.kubernetes.protobuf", Whole},
		{pods, "application/vnd.kubernetes.protobuf;q=0.1, application/json;q=0.9", scope.JSON, "application/json", Whole},
		{pods, "application/cbor, application/json", scope.JSON, "application/json", Whole},
		{pods, "application/yaml", scope.Protobuf, "application/yaml", Whole},
		{pods, kubectl, scope.Protobuf, "application/json", Table},
		{pods + "?watch=1", kubectl, scope.Protobuf, "application/json", Table},
		{pods, informers, scope.JSON, "application/vnd.kubernetes.protobuf", Metadata},
		{widgets, kubelet, scope.JSON, "application/json", Whole},
		{widgets, informers, scope.JSON, "application/vnd.kubernetes.protobuf", Metadata},
		{widgets, kubectl, scope.JSON, "application/json", Table},
		// An aggregated API that was read in protobuf, and whose types nobody here knows.
		{"/apis/metrics.k8s.io/v1beta1/pods", "*/*", scope.Protobuf, "application/vnd.kubernetes.protobuf", Whole},
	} {
		f, err := Negotiate(parse(t, test.target, test.accept, test.native))
		if err != nil {
			t.Errorf("%s %q: %v", test.target, test.accept, err)
			continue
		}
		if f.ContentType() != test.want || f.As != test.as {
			t.Errorf("%s %q: got %s as %d, want %s as %d", test.target, test.accept, f.ContentType(), f.As, test.want, test.as)
		}
	}
}

func TestNotAcceptable(t *testing.T) {
	const all = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
	for _, test := range []struct {
		target, accept string
		native         scope.Encoding
		code           int
		message        string
	}{
		{"/api/v1/pods", "application/cbor", scope.Protobuf, 406, "406: Not Acceptable\n\nAvailable representations: application/json, " +
			"application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"},
		{"/api/v1/nodes/n", "application/*", scope.Protobuf, 406, "406: Not Acceptable\n\nAvailable representations: application/json, " +
			"application/yaml, application/vnd.kubernetes.protobuf"},
		{"/api/v1/pods", "application/json;stream=other", scope.Protobuf, 406, all},
		{"/apis/example.com/v1/widgets", "application/cbor", scope.JSON, 406, all},
		{"/apis/example.com/v1/widgets", "application/vnd.kubernetes.protobuf", scope.JSON, 406, all},
		{"/apis/metrics.k8s.io/v1beta1/pods", "application/json", scope.Protobuf, 406,
			"only the following media types are accepted: application/vnd.kubernetes.protobuf"},
		{"/api/v1/pods?watch=1", "application/yaml", scope.Protobuf, 406,
			"only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"},
		{"/api/v1/pods", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", scope.Protobuf, 406,
			"you requested PartialObjectMetadata, but the requested object is a list"},
		{"/api/v1/nodes/n", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", scope.Protobuf, 406,
			"you requested PartialObjectMetadataList, but the requested object is not a list"},
		{"/api/v1/pods?includeObject=All", kubectl, scope.Protobuf, 400,
			`Unable to convert to Table as requested: includeObject: Invalid value: "All": must be 'Metadata', 'Object', 'None', or empty`},
		{"/apis/example.com/v1/widgets", strings.Repeat("application/json,", 1000), scope.JSON, 406, all},
	} {
		_, err := Negotiate(parse(t, test.target, test.accept, test.native))
		var e *request.Error
		if !errors.As(err, &e) {
			t.Errorf("%s %.80q: got %v, want an *Error", test.target, test.accept, err)
			continue
		}
		if e.Code != test.code || e.Message != test.message {
			t.Errorf("%s %.80q: got %d %q\nwant %d %q", test.target, test.accept, e.Code, e.Message, test.code, test.message)
		}
	}
}

func TestGzipIsForWhoAsks(t *testing.T) {
	for _, test := range []struct {
		target, accepts string
		want            bool
	}{
		{"/api/v1/pods", "gzip", true}, {"/api/v1/pods", "br, gzip", true}, {"/api/v1/pods", "*", true}, {"/api/v1/pods", "", false},
		{"/api/v1/pods", "gzip;q=0", false}, {"/api/v1/pods", "gzip;q=1", false}, {"/api/v1/pods?watch=1", "gzip", false},
	} {
		r, req, native := parse(t, test.target, "", scope.JSON)
		r.Header.Set("Accept-Encoding", test.accepts)
		f, err := Negotiate(r, req, native)
		if err != nil {
			t.Fatal(err)
		}
		if f.Gzip != test.want {
			t.Errorf("%s %q: got %v", test.target, test.accepts, f.Gzip)
		}
	}
}

func TestPrettyIsForPeople(t *testing.T) {
	for _, test := range []struct {
		target, accept, agent string
		want                  bool
	}{
		{"/api/v1/pods", "", "curl/8", true}, {"/api/v1/pods?pretty=0", "", "curl/8", false}, {"/api/v1/pods?pretty=true", "", "", true},
		{"/api/v1/pods?pretty=x", "", "curl", false}, {"/api/v1/pods", "application/json;pretty=1", "", true}, {"/api/v1/pods", "", "kubelet", false},
		{"/api/v1/pods?watch=1", "", "curl/8", false}, {"/api/v1/pods", "application/vnd.kubernetes.protobuf", "curl", false},
	} {
		r, req, native := parse(t, test.target, test.accept, scope.JSON)
		r.Header.Set("User-Agent", test.agent)
		f, err := Negotiate(r, req, native)
		if err != nil {
			t.Fatal(err)
		}
		if f.Pretty != test.want {
			t.Errorf("%s %q %s: got %v", test.target, test.accept, test.agent, f.Pretty)
		}
	}
}

// FuzzNegotiate checks that no header brings negotiation down, and that what is agreed on can be had.
func FuzzNegotiate(f *testing.F) {
	for _, accept := range []string{kubelet, kubectl, informers, "", "*/*", "a/b/c;q=x,;=;,", "application/json;q=1;as=Table;v=v1;g=meta.k8s.io;q=0"} {
		f.Add(accept, "/api/v1/pods", "gzip", true)
		f.Add(accept, "/apis/example.com/v1/widgets?watch=1&includeObject=None", "", false)
	}
	f.Fuzz(func(t *testing.T, accept, target, encodings string, protobuf bool) {
		r := &http.Request{Method: http.MethodGet, Header: http.Header{"Accept": {accept}, "Accept-Encoding": {encodings}}}
		var err error
		if r.URL, err = r.URL.Parse("https://127.0.0.1" + target); err != nil {
			return
		}
		req, err := request.Parse(r)
		if err != nil || req.Verb != "get" && req.Verb != "list" && req.Verb != "watch" {
			return
		}
		native := scope.JSON
		if protobuf {
			native = scope.Protobuf
		}
		got, err := Negotiate(r, req, native)
		if err != nil {
			var e *request.Error
			if !errors.As(err, &e) || e.Code != 406 && e.Code != 400 || e.Message == "" {
				t.Fatalf("got %v, want an *Error", err)
			}
			return
		}
		switch {
		case got.Encoding != scope.JSON && got.Encoding != scope.Protobuf,
			got.Encoding != native && got.As != Metadata && !known().serves(req.Resource),
			got.As == Table && got.Encoding != scope.JSON,
			got.As != Whole && got.MetaVersion != "v1" && got.MetaVersion != "v1beta1",
			got.Stream != (req.Verb == "watch"), got.Stream && (got.YAML || got.Gzip):
			t.Fatalf("%q of %s held as %d: got %+v", accept, target, native, got)
		}
	})
}

// parse makes the arguments of Negotiate.
func parse(t testing.TB, target, accept string, native scope.Encoding) (*http.Request, request.Request, scope.Encoding) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	r.Header.Set("Accept", accept)
	req, err := request.Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	return r, req, native
}

// BenchmarkNegotiate is of what the kubelet sends with every request.
func BenchmarkNegotiate(b *testing.B) {
	r, req, native := parse(b, "/api/v1/nodes/n", kubelet, scope.Protobuf)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Negotiate(r, req, native); err != nil {
			b.Fatal(err)
		}
	}
}
