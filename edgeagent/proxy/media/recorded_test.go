package media_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/media"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// recording is testdata/recorded.json: what a real API server answered for the objects of testdata.
type recording struct {
	Collections []recordedCollection
}

type recordedCollection struct {
	Path string
	// List is the collection as JSON, Table as a Table, CRD the definition of a custom resource.
	List, Table, CRD json.RawMessage `json:",omitempty"`
}

// TestRecordedTables makes Tables of recorded lists, and compares them with the recorded Tables.
func TestRecordedTables(t *testing.T) {
	text, err := os.ReadFile("testdata/recorded.json")
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Collections) < 10 {
		t.Fatalf("testdata/recorded.json has %d collections", len(r.Collections))
	}
	compareRecording(t, r)
}

func compareRecording(t *testing.T, r recording) {
	for _, c := range r.Collections {
		t.Run(path.Base(c.Path), func(t *testing.T) {
			h := scan(t, scope.JSON, c.List)
			req, err := request.Parse(httpGet(t, c.Path, ""))
			if err != nil {
				t.Fatal(err)
			}
			var crd scope.Item
			if len(c.CRD) > 0 {
				if crd, err = wire.Object(scope.JSON, "", "", c.CRD); err != nil {
					t.Fatal(err)
				}
			}
			renderer := media.Renderer{
				Format: media.Format{Encoding: scope.JSON, As: media.Table, MetaVersion: "v1", Include: "None"},
				Kind:   h.list.Kind, Resource: req.Resource, CRD: crd, Now: time.Now,
			}
			var b bytes.Buffer
			if err := renderer.List(&b, h.list, all(h.items)); err != nil {
				t.Fatal(err)
			}
			compareJSON(t, c.Path, b.Bytes(), c.Table)
		})
	}
}
