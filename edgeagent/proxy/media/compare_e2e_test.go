//go:build e2e

package media_test

import (
	"bytes"
	"encoding/json"
	"net/http"
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
	"sigs.k8s.io/yaml"
)

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

// compareWatch asks both for a watch that begins with what is there. There are no bookmarks in it: this API server's etcd is too
// old for them to come soon.
func (s *server) compareWatch(t *testing.T, collection, accept string) {
	t.Helper()
	target := collection + "?watch=1&timeoutSeconds=1&resourceVersion=0"
	code, head, events := s.get(t, target, accept)
	for _, native := range s.natives(collection) {
		h := s.hold(t, collection, native)
		r := httpGet(t, target, accept)
		req, err := request.Parse(r)
		if err != nil {
			t.Fatal(err)
		}
		format, err := media.Negotiate(r, req, h.native)
		if err != nil {
			refused := refusal(t, err)
			if refused.code != code {
				t.Errorf("got status %d, want %d: %s", refused.code, code, events)
			}
			compareRefusals(t, target+" "+accept, refused.body, events, head)
			continue
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
		compareStreams(t, format, mine, events)
	}
}

func compareStreams(t *testing.T, format media.Format, got, want []byte) {
	t.Helper()
	if format.Encoding == scope.Protobuf {
		compareFrames(t, got, want)
		return
	}
	compareLines(t, got, want)
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
			all[o["rows"].([]any)[0].(map[string]any)["cells"].([]any)[0].(string)] = []any{frame.Type, o}
			continue
		}
		name, _ := o["metadata"].(map[string]any)["name"].(string)
		all[name] = []any{frame.Type, o}
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
