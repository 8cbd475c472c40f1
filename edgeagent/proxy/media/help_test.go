package media_test

import (
	"encoding/json"
	"iter"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// held is a collection as the cache keeps it.
type held struct {
	native scope.Encoding
	list   wire.List
	items  []scope.Item
}

func scan(t *testing.T, encoding scope.Encoding, body []byte) held {
	t.Helper()
	h := held{native: encoding}
	scanner := wire.NewListScanner(encoding, wire.Limits{}, func(item scope.Item) error {
		h.items = append(h.items, item)
		return nil
	})
	if _, err := scanner.Write(body); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	list, err := scanner.Close()
	if err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	h.list = list
	for i := range h.items {
		h.items[i] = list.Own(h.items[i])
	}
	return h
}

func all(items []scope.Item) iter.Seq2[scope.Item, error] {
	return func(yield func(scope.Item, error) bool) {
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	}
}

func httpGet(t *testing.T, target, accept string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://127.0.0.1"+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	return req
}

// compareJSON compares bodies, but for ages and the version of a list.
func compareJSON(t *testing.T, what string, got, want []byte) {
	t.Helper()
	g, w := plain(t, got), plain(t, want)
	if !reflect.DeepEqual(g, w) {
		a, _ := json.MarshalIndent(g, "", " ")
		b, _ := json.MarshalIndent(w, "", " ")
		t.Errorf("%s: got\n%s\nwant\n%s", what, firstDifference(string(a), string(b)), firstDifference(string(b), string(a)))
	}
}

// firstDifference gives the lines around the first line in which two texts differ.
func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range x {
		if i >= len(y) || x[i] != y[i] {
			return strings.Join(x[max(0, i-8):min(len(x), i+8)], "\n")
		}
	}
	return "…"
}

var age = regexp.MustCompile(`^(\d+[smhdy])+$`)
var ago = regexp.MustCompile(`\((\d+[smhdy])+ ago\)`)

// plain decodes JSON, and replaces ages.
func plain(t *testing.T, body []byte) any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal(body, &o); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if kind, _ := o["kind"].(string); kind == "Table" || strings.HasSuffix(kind, "List") {
		if meta, ok := o["metadata"].(map[string]any); ok {
			delete(meta, "resourceVersion")
			if meta["continue"] == "" {
				delete(meta, "continue") // lists of custom resources have it
			}
		}
	}
	if items, ok := o["items"]; ok && items == nil {
		o["items"] = []any{} // the same to every client
	}
	rows, _ := o["rows"].([]any)
	for _, row := range rows {
		cells, _ := row.(map[string]any)["cells"].([]any)
		for i, cell := range cells {
			if text, ok := cell.(string); ok {
				cells[i] = ago.ReplaceAllString(age.ReplaceAllString(text, "<age>"), "<ago>")
			}
		}
	}
	if kind := o["kind"]; kind == "Table" && len(rows) == 0 {
		delete(o, "rows") // so are these
	}
	return o
}
