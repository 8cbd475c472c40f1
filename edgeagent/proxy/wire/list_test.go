package wire_test

import (
	"bytes"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

func sequence(items []scope.Item) iter.Seq2[scope.Item, error] {
	return func(yield func(scope.Item, error) bool) {
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}
}

func TestJSONList(t *testing.T) {
	t.Parallel()
	item := func(name string) string { return `{"metadata":{"name":"` + name + `"}}` }
	for _, test := range []struct {
		name, body, items, kind, version string
		err                              error
	}{
		{"as it comes", `{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[` + item("a") + `,` + item("b") + `]}`, "Pod/a Pod/b", "PodList", "7", nil},
		{"items first", `{"items":[` + item("a") + `],"metadata":{"resourceVersion":"7"},"kind":"PodList","apiVersion":"v1"}`, "/a", "PodList", "7", nil},
		{"sorted, as custom resources are", `{"apiVersion":"x.y/v1","items":[{"apiVersion":"x.y/v1","kind":"Foo","metadata":{"name":"a"}}],"kind":"FooList","metadata":{"resourceVersion":"7"}}`, "Foo/a", "FooList", "7", nil},
		{"no items", `{"kind":"PodList","apiVersion":"v1","items":[]}`, "", "PodList", "", nil},
		{"items are null", `{"kind":"PodList","apiVersion":"v1","metadata":null,"items":null}`, "", "PodList", "", nil},
		{"whitespace everywhere", " {\n\"kind\" : \"PodList\" , \"items\"\t: [ " + item("a") + " , " + item("b") + "\r] , \"apiVersion\" : \"v1\" } \n", "/a /b", "PodList", "", nil},
		{"escapes", `{"k\u0069nd":"P\u006fdList","apiVersion":"v1","items":[{"m\u0065tadata":{"name":"\u0061"}}]}`, "Pod/a", "PodList", "", nil},
		{"unknown members", `{"kind":"PodList","apiVersion":"v1","new":[1,{"items":[]}],"n":-1.5e+3,"items":[` + item("a") + `],"t":true}`, "Pod/a", "PodList", "", nil},
		{"brackets in strings", `{"kind":"PodList","apiVersion":"v1","items":[{"x":"]}\"\\","metadata":{"name":"a"}}]}`, "Pod/a", "PodList", "", nil},
		{"empty item", `{"kind":"PodList","apiVersion":"v1","items":[{}]}`, "Pod/", "PodList", "", nil},
		{"nothing", ``, "", "", "", wire.ErrTruncated},
		{"whitespace only", " \n", "", "", "", wire.ErrTruncated},
		{"no items member", `{"kind":"Status","apiVersion":"v1"}`, "", "", "", wire.ErrNotList},
		{"not an object", `[]`, "", "", "", wire.ErrMalformed},
		{"items are an object", `{"items":{}}`, "", "", "", wire.ErrMalformed},
		{"items twice", `{"items":[],"items":[]}`, "", "", "", wire.ErrMalformed},
		{"items twice, once null", `{"items":[` + item("a") + `],"items":null}`, "", "", "", wire.ErrMalformed},
		{"an item is null", `{"items":[null]}`, "", "", "", wire.ErrMalformed},
		{"comma before the end", `{"items":[{},]}`, "", "", "", wire.ErrMalformed},
		{"comma before the end of the list", `{"items":[],}`, "", "", "", wire.ErrMalformed},
		{"no comma between items", `{"items":[{}{}]}`, "", "", "", wire.ErrMalformed},
		{"brackets do not match", `{"items":[{"a":[}]]}`, "", "", "", wire.ErrMalformed},
		{"name is a number", `{"items":[{"metadata":{"name":1}}]}`, "", "", "", wire.ErrMalformed},
		{"a name without quotes", `{items:[]}`, "", "", "", wire.ErrMalformed},
		{"something follows", `{"items":[]}{}`, "", "", "", wire.ErrMalformed},
		{"a literal that is none", `{"items":nul}`, "", "", "", wire.ErrMalformed},
		{"control character", "{\"items\":[{\"a\":\"\x01\"}]}", "", "", "", wire.ErrMalformed},
		{"remaining is no number", `{"metadata":{"remainingItemCount":"1"},"items":[]}`, "", "", "", wire.ErrMalformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for size := 1; size <= len(test.body)+1; size++ {
				var items []string
				s := wire.NewListScanner(scope.JSON, wire.Limits{}, func(item scope.Item) error {
					items = append(items, item.Kind+"/"+item.Name)
					return nil
				})
				var err error
				for body := []byte(test.body); len(body) > 0 && err == nil; body = body[min(size, len(body)):] {
					_, err = s.Write(body[:min(size, len(body))])
				}
				list, closed := s.Close()
				if !errors.Is(closed, test.err) || err != nil && !errors.Is(closed, err) {
					t.Fatalf("pieces of %d: got %v and %v, want %v", size, err, closed, test.err)
				}
				if test.err == nil && (strings.Join(items, " ") != test.items || list.Kind.Kind != test.kind || list.Version != test.version) {
					t.Fatalf("pieces of %d: got %+v %q", size, list, items)
				}
			}
		})
	}
}

func TestProtobufThatIsNoList(t *testing.T) {
	t.Parallel()
	status := wire.AppendStatus(nil, scope.Protobuf, wire.Status{Code: 200})
	for _, test := range []struct {
		name string
		body []byte
		err  error
	}{
		{"nothing", nil, wire.ErrTruncated},
		{"the magic alone", []byte("k8s\x00"), wire.ErrTruncated},
		{"a status", status, wire.ErrNotList},
		{"JSON", []byte(`{"items":[]}`), wire.ErrMalformed},
		{"no kind before the list", []byte("k8s\x00\x12\x00"), wire.ErrNotList},
		{"a tag that is none", []byte("k8s\x00\x00"), wire.ErrMalformed},
		{"a group", []byte("k8s\x00\x0b\x0c"), wire.ErrMalformed},
		{"an endless number", []byte("k8s\x00" + strings.Repeat("\xff", 30)), wire.ErrMalformed},
		{"an item longer than its list", []byte("k8s\x00\x0a\x0d\x0a\x02v1\x12\x07PodList\x12\x02\x12\x7f"), wire.ErrMalformed},
		{"a length that ends outside the list", []byte("k8s\x00\x0a\x0d\x0a\x02v1\x12\x07PodList\x12\x01\x12\x00"), wire.ErrMalformed},
		{"compressed once more", []byte("k8s\x00\x0a\x0d\x0a\x02v1\x12\x07PodList\x12\x00\x1a\x04gzip"), wire.ErrMalformed},
		{"two lists", []byte("k8s\x00\x0a\x0d\x0a\x02v1\x12\x07PodList\x12\x00\x12\x00"), wire.ErrMalformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := wire.NewListScanner(scope.Protobuf, wire.Limits{}, func(scope.Item) error { return nil })
			_, _ = s.Write(test.body) // Close gives the same error
			if _, err := s.Close(); !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
		})
	}
}

func TestListErrorStays(t *testing.T) {
	t.Parallel()
	full := errors.New("full")
	s := wire.NewListScanner(scope.JSON, wire.Limits{}, func(scope.Item) error { return full })
	if _, err := s.Write([]byte(`{"items":[{},`)); !errors.Is(err, full) {
		t.Fatalf("got %v, want the error of each", err)
	}
	if n, err := s.Write([]byte(`{}]}`)); n != 0 || !errors.Is(err, full) {
		t.Errorf("the next Write gave %d, %v", n, err)
	}
	if _, err := s.Close(); !errors.Is(err, full) {
		t.Errorf("Close gave %v", err)
	}
	if _, err := wire.NewListScanner(0, wire.Limits{}, nil).Write(nil); err == nil {
		t.Error("a scanner for no encoding works")
	}
}

// TestPromisedSize checks that a list writer notices items that are not what was promised.
func TestPromisedSize(t *testing.T) {
	t.Parallel()
	item := scope.Item{Encoding: scope.Protobuf, Raw: []byte("\x0a\x00")}
	list := wire.List{Kind: scope.Kind{APIVersion: "v1", Kind: "PodList"}}
	for items, promised := range map[int]int{0: 1, 2: 1, 1: 1} {
		var out bytes.Buffer
		w := wire.NewListWriter(&out, scope.Protobuf, list, int64(promised)*wire.ItemSize(2))
		for range items {
			_ = w.Write(item) // Close gives the same error
		}
		if err := w.Close(); (err == nil) != (items == promised) {
			t.Errorf("%d items of %d: %v", items, promised, err)
		}
	}
	w := wire.NewListWriter(&bytes.Buffer{}, scope.JSON, list, 0)
	if err := w.Write(item); err == nil {
		t.Error("a protobuf item was written into a JSON list")
	}
}

func TestOwn(t *testing.T) {
	t.Parallel()
	list := wire.List{Kind: scope.Kind{APIVersion: "apps/v1", Kind: "DeploymentList"}}
	if got := list.Own(scope.Item{}); got.APIVersion != "apps/v1" || got.Kind != "Deployment" {
		t.Errorf("got %+v", got)
	}
	if got := list.Own(scope.Item{APIVersion: "v1", Kind: "Pod"}); got.Kind != "Pod" {
		t.Errorf("got %+v", got)
	}
	list.Kind.Kind = "List"
	if got := list.Own(scope.Item{}); got.Kind != "" || got.APIVersion != "" {
		t.Errorf("an item of a List got %+v", got)
	}
}
