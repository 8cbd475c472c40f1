package request

import (
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	pods        = scope.Resource{Version: "v1", Resource: "pods"}
	namespaces  = scope.Resource{Version: "v1", Resource: "namespaces"}
	nodes       = scope.Resource{Version: "v1", Resource: "nodes"}
	deployments = scope.Resource{Group: "apps", Version: "v1", Resource: "deployments"}
)

// TestPaths has the cases of kube-apiserver's own test, and what a proxy may meet besides.
func TestPaths(t *testing.T) {
	for _, test := range []struct {
		method, target string
		want           Request
	}{
		{"GET", "/", Request{Verb: "get"}},
		{"GET", "/version", Request{Verb: "get"}},
		{"POST", "/healthz", Request{Verb: "post"}},
		{"GET", "/api", Request{Verb: "get"}},
		{"GET", "/api/v1", Request{Verb: "get"}},
		{"GET", "/api/v1/", Request{Verb: "get"}},
		{"GET", "/apis/apps/v1", Request{Verb: "get"}},
		{"GET", "/apis/apps", Request{Verb: "get"}},
		{"GET", "/openapi/v3/apis/apps/v1", Request{Verb: "get"}},
		{"GET", "/logs/api/v1/pods", Request{Verb: "get"}},
		{"GET", "/api/v1/nodes", Request{Verb: "list", Resource: nodes}},
		{"GET", "/api/v1/nodes/", Request{Verb: "list", Resource: nodes}},
		{"GET", "//api/v1/nodes", Request{Verb: "list", Resource: nodes}},
		{"GET", "/api/v1/nodes/n1", Request{Verb: "get", Resource: nodes, Name: "n1"}},
		{"HEAD", "/api/v1/nodes/n1", Request{Verb: "get", Resource: nodes, Name: "n1"}},
		{"PATCH", "/api/v1/nodes/n1/status", Request{Verb: "patch", Resource: nodes, Name: "n1", Subresource: "status"}},
		{"GET", "/api/v1/namespaces", Request{Verb: "list", Resource: namespaces}},
		{"GET", "/api/v1/namespaces/a", Request{Verb: "get", Resource: namespaces, Name: "a"}},
		{"PUT", "/api/v1/namespaces/a/status", Request{Verb: "update", Resource: namespaces, Name: "a", Subresource: "status"}},
		{"PUT", "/api/v1/namespaces/a/finalize", Request{Verb: "update", Resource: namespaces, Name: "a", Subresource: "finalize"}},
		{"GET", "/api/v1/namespaces/a/pods", Request{Verb: "list", Resource: pods, Namespace: "a"}},
		{"GET", "/api/v1/namespaces/a/pods/p", Request{Verb: "get", Resource: pods, Namespace: "a", Name: "p"}},
		{"DELETE", "/api/v1/namespaces/a/pods/p", Request{Verb: "delete", Resource: pods, Namespace: "a", Name: "p"}},
		{"DELETE", "/api/v1/namespaces/a/pods", Request{Verb: "deletecollection", Resource: pods, Namespace: "a"}},
		{"POST", "/api/v1/namespaces/a/pods", Request{Verb: "create", Resource: pods, Namespace: "a"}},
		{"POST", "/api/v1/namespaces/a/pods/p/exec?command=ls", Request{Verb: "create", Resource: pods, Namespace: "a", Name: "p", Subresource: "exec"}},
		{"GET", "/api/v1/namespaces/a/pods/p/proxy/x/y", Request{
			Verb: "get", Resource: pods, Namespace: "a", Name: "p", Subresource: "proxy", Rest: "/x/y"}},
		{"OPTIONS", "/api/v1/namespaces/a/pods", Request{Resource: pods, Namespace: "a"}},
		{"GET", "/apis/apps/v1/namespaces/a/deployments/d/scale", Request{
			Verb: "get", Resource: deployments, Namespace: "a", Name: "d", Subresource: "scale"}},
		{"GET", "/apis/apps/v1/deployments", Request{Verb: "list", Resource: deployments}},
		{"GET", "/api/v1/proxy/namespaces/a/pods/p/x/y", Request{Verb: "proxy", Resource: pods, Namespace: "a", Name: "p"}},
		{"GET", "/api/v1/namespaces/a/pods/p%2Fexec", Request{Verb: "get", Resource: pods, Namespace: "a", Name: "p", Subresource: "exec"}},
	} {
		t.Run(test.method+" "+test.target, func(t *testing.T) {
			got, err := Parse(newRequest(t, test.method, test.target))
			if err != nil {
				t.Fatal(err)
			}
			test.want.Path = newRequest(t, test.method, test.target).URL.Path
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
			if got.Resourceful() != (test.want.Resource != scope.Resource{}) {
				t.Errorf("Resourceful: got %v", got.Resourceful())
			}
		})
	}
}

// TestQueries checks what is read from a query, and the scope that it names.
func TestQueries(t *testing.T) {
	yes, no := true, false
	for _, test := range []struct {
		target string
		verb   string
		name   string
		want   Options
		key    scope.Key
	}{
		{"/api/v1/pods?watch", "watch", "", Options{Watch: true, SendInitialEvents: &yes, Match: NotOlderThan}, scope.Key{Resource: pods}},
		{"/api/v1/pods?watch=FALSE", "list", "", Options{}, scope.Key{Resource: pods}},
		{"/api/v1/pods?watch=0&limit=500&continue=abc&resourceVersion=0", "list", "",
			Options{Limit: 500, Continue: "abc", ResourceVersion: "0"}, scope.Key{Resource: pods}},
		{"/api/v1/namespaces/a/pods?watch=1&resourceVersion=7&allowWatchBookmarks=true&timeoutSeconds=300", "watch", "",
			Options{Watch: true, ResourceVersion: "7", AllowBookmarks: true, Timeout: 300 * time.Second}, scope.Key{Resource: pods, Namespace: "a"}},
		{"/api/v1/pods?watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=7", "watch", "",
			Options{Watch: true, SendInitialEvents: &no, Match: NotOlderThan, ResourceVersion: "7"}, scope.Key{Resource: pods}},
		{"/api/v1/pods?labelSelector=b+in+(y,x,y),!c,a%3D%3D1&fieldSelector=spec.nodeName%3D%3Dn,metadata.name!%3Dx", "list", "",
			Options{Labels: "!c,a=1,b in (x,y)", Fields: "metadata.name!=x,spec.nodeName=n"},
			scope.Key{Resource: pods, Labels: "!c,a=1,b in (x,y)", Fields: "metadata.name!=x,spec.nodeName=n"}},
		{"/api/v1/nodes?fieldSelector=metadata.name%3Dn1", "list", "n1", Options{Fields: "metadata.name=n1"},
			scope.Key{Resource: nodes, Fields: "metadata.name=n1"}},
		{"/api/v1/nodes?fieldSelector=metadata.name%3Da/b", "list", "", Options{Fields: "metadata.name=a/b"},
			scope.Key{Resource: nodes, Fields: "metadata.name=a/b"}},
		{"/api/v1/nodes?labelSelector=a&labelSelector=b", "list", "", Options{Labels: "a"}, scope.Key{Resource: nodes, Labels: "a"}},
		{"/api/v1/watch/namespaces/a/pods", "watch", "", Options{Watch: true, SendInitialEvents: &yes, Match: NotOlderThan},
			scope.Key{Resource: pods, Namespace: "a"}},
		{"/api/v1/watch/namespaces/a/pods/p?resourceVersion=4", "watch", "p",
			Options{Watch: true, ResourceVersion: "4", Fields: "metadata.name=p"}, scope.Key{Resource: pods, Namespace: "a", Fields: "metadata.name=p"}},
		{"/api/v1/namespaces/a/pods/p?resourceVersion=0", "get", "p", Options{ResourceVersion: "0"},
			scope.Key{Resource: pods, Namespace: "a", Name: "p"}},
		{"/api/v1/pods?shardSelector=x", "list", "", Options{Shard: "x"}, scope.Key{Resource: pods}},
		{"/api/v1/pods?timeoutSeconds=-5", "list", "", Options{}, scope.Key{Resource: pods}},
		{"/api/v1/pods?timeoutSeconds=9223372036854775807", "list", "", Options{Timeout: 365 * 24 * time.Hour}, scope.Key{Resource: pods}},
	} {
		t.Run(test.target, func(t *testing.T) {
			got, err := Parse(newRequest(t, "GET", test.target))
			if err != nil {
				t.Fatal(err)
			}
			if got.Verb != test.verb || got.Name != test.name || !reflect.DeepEqual(got.Options, test.want) {
				t.Errorf("got %s %q %+v\nwant %s %q %+v", got.Verb, got.Name, got.Options, test.verb, test.name, test.want)
			}
			test.key.Identity = "me"
			if key := got.Key("me"); key != test.key {
				t.Errorf("got key %+v, want %+v", key, test.key)
			}
		})
	}
}

// TestRefusals checks errors, and that what is known of the request comes with them.
func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		target, verb, message string
		code                  int
	}{
		{"/api/v1/watch", "get", "unable to determine kind and namespace from url, /api/v1/watch", 400},
		{"/apis/apps/v1/watch", "get", "unable to determine kind and namespace from url, /apis/apps/v1/watch", 400},
		{"/api/v1/pods?labelSelector=a%3D%3D%3Db", "list", "found '=', expected: identifier", 400},
		{"/api/v1/pods?fieldSelector=a", "list", `invalid selector: 'a'; can't understand 'a'`, 400},
		{"/api/v1/pods?limit=many", "list", `strconv.ParseInt: parsing "many": invalid syntax`, 400},
		{"/api/v1/pods?watch=1&limit=many", "watch", `strconv.ParseInt: parsing "many": invalid syntax`, 400},
		{"/api/v1/pods?continue=x&resourceVersion=5", "list", "specifying resource version is not allowed when using continue", 400},
		{"/api/v1/watch/pods/p?fieldSelector=metadata.name%3Dq", "watch", "fieldSelector metadata.name doesn't match requested name", 400},
		{"/api/v1/watch/pods/p?fieldSelector=spec.nodeName%3Dq", "watch", "fieldSelector metadata.name doesn't match requested name", 400},
		{"/api/v1/pods/" + strings.Repeat("x", 2000), "get", "a part of the path is 2000 bytes long: at most 1024 are read", 400},
		{"/api/v1/nodes/%ff", "get", `a part of the path is not UTF-8: "\xff"`, 400},
		{"/api/v1/pods?fieldSelector=a%3D%ff", "list", `field selector "a=\xff" is not UTF-8`, 400},
		{"/api/v1/pods?x=" + strings.Repeat("x", 70000), "get", "the query is 70002 bytes long: at most 65536 are read", 400},
	} {
		t.Run(test.target[:min(len(test.target), 60)], func(t *testing.T) {
			got, err := Parse(newRequest(t, "GET", test.target))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if e.Code != test.code || !strings.Contains(e.Message, test.message) || e.Reason != "BadRequest" || e.Error() != e.Message {
				t.Errorf("got %+v, want %d %s", e, test.code, test.message)
			}
			if got.Verb != test.verb {
				t.Errorf("got verb %q, want %q", got.Verb, test.verb)
			}
		})
	}
}

// TestOptionsAsAPIServer runs through the combinations of options that matter, and compares with apimachinery's own code.
func TestOptionsAsAPIServer(t *testing.T) {
	values := map[string][]string{
		"watch":                {"", "1"},
		"resourceVersion":      {"", "0", "5"},
		"resourceVersionMatch": {"", "Exact", "NotOlderThan", "Other"},
		"sendInitialEvents":    {"-", "true", "false", ""},
		"continue":             {"", "x"},
		"allowWatchBookmarks":  {"", "true"},
	}
	names := []string{"watch", "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "continue", "allowWatchBookmarks"}
	count := 0
	var try func(query url.Values, left []string)
	try = func(query url.Values, left []string) {
		if len(left) == 0 {
			count++
			compareOptions(t, query)
			return
		}
		for _, v := range values[left[0]] {
			next := url.Values{}
			for name, value := range query {
				next[name] = value
			}
			if v == "-" || v == "" && left[0] != "sendInitialEvents" {
				try(next, left[1:])
				continue
			}
			next.Set(left[0], v)
			try(next, left[1:])
		}
	}
	try(url.Values{}, names)
	if want := 2 * 3 * 4 * 4 * 2 * 2; count != want {
		t.Errorf("tried %d combinations, want %d", count, want)
	}
}

// compareOptions parses a query both ways.
func compareOptions(t *testing.T, query url.Values) {
	t.Helper()
	want := internalversion.ListOptions{}
	if err := scheme.ParameterCodec.DecodeParameters(query, metav1.SchemeGroupVersion, &want); err != nil {
		t.Fatal(err)
	}
	internalversion.SetListOptionsDefaults(&want, true)
	errs := validation.ValidateListOptions(&want, true)
	got, err := Parse(newRequest(t, "GET", "/api/v1/pods?"+query.Encode()))
	if len(errs) == 0 {
		var e *Error
		if errors.As(err, &e) && e.Message == "specifying resource version is not allowed when using continue" {
			return // the storage says so later
		}
		if err != nil {
			t.Errorf("%s: got %v, want none", query.Encode(), err)
		}
		o := got.Options
		if o.Watch != want.Watch || o.Match != string(want.ResourceVersionMatch) || !reflect.DeepEqual(o.SendInitialEvents, want.SendInitialEvents) ||
			o.AllowBookmarks != want.AllowWatchBookmarks || o.Continue != want.Continue || o.ResourceVersion != want.ResourceVersion {
			t.Errorf("%s: got %+v, want %+v", query.Encode(), o, want)
		}
		if initial := want.Watch && want.SendInitialEvents != nil && *want.SendInitialEvents; o.InitialEvents() != initial {
			t.Errorf("%s: InitialEvents: got %v, want %v", query.Encode(), o.InitialEvents(), initial)
		}
		return
	}
	status := apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", errs).Status()
	var e *Error
	if !errors.As(err, &e) {
		t.Errorf("%s: got %v, want %s", query.Encode(), err, status.Message)
		return
	}
	var causes []Cause
	for _, c := range status.Details.Causes {
		causes = append(causes, Cause{Reason: string(c.Type), Message: c.Message, Field: c.Field})
	}
	if e.Code != int(status.Code) || e.Reason != string(status.Reason) || e.Message != status.Message || !slices.Equal(e.Causes, causes) {
		t.Errorf("%s: got %+v\nwant %+v", query.Encode(), e, status)
	}
}

func newRequest(t testing.TB, method, target string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://127.0.0.1:6440"+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// FuzzParse checks that no request brings the parser down, and that canonical selectors are canonical.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"/api/v1/namespaces/a/pods?labelSelector=a+in+(b),c&fieldSelector=x%3Dy", "/apis/apps/v1/watch/namespaces/a/deployments/d", "/api/v1/watch",
		"/api/v1/pods?watch=1&resourceVersion=0&sendInitialEvents=1", "////", "/api/v1/namespaces/a/status", "/api/v1/proxy/nodes",
	} {
		f.Add("GET", seed)
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r := &http.Request{Method: method, URL: u}
		got, err := Parse(r)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Code < 400 || e.Message == "" {
				t.Fatalf("got %v, want an *Error with a message", err)
			}
			return
		}
		key := got.Key("me")
		if got.Verb != "list" && got.Verb != "watch" {
			return
		}
		again, err := Parse(&http.Request{Method: "GET", URL: &url.URL{Path: "/api/v1/pods", RawQuery: url.Values{
			"labelSelector": {key.Labels}, "fieldSelector": {key.Fields}}.Encode()}})
		if err != nil && !strings.Contains(err.Error(), "the query is") {
			t.Fatalf("canonical selectors %q %q: %v", key.Labels, key.Fields, err)
		}
		if err == nil && (again.Options.Labels != key.Labels || again.Options.Fields != key.Fields) {
			t.Fatalf("got %q %q, want %q %q", again.Options.Labels, again.Options.Fields, key.Labels, key.Fields)
		}
	})
}

// BenchmarkParse is of what the kubelet asks most: its node, and a watch of one Secret.
func BenchmarkParse(b *testing.B) {
	for name, target := range map[string]string{
		"get":   "/api/v1/nodes/n1?resourceVersion=0",
		"watch": "/api/v1/namespaces/a/secrets?allowWatchBookmarks=true&fieldSelector=metadata.name%3Dx&resourceVersion=17&timeoutSeconds=431&watch=true",
	} {
		b.Run(name, func(b *testing.B) {
			r := newRequest(b, "GET", target)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
