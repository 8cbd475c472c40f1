package scope_test

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// TestDocument: a document reads as upstream gave it, however it is kept; a damaged one is an error, not a shorter one.
func TestDocument(t *testing.T) {
	long := strings.Repeat("what the API offers ", 1000)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write([]byte(long))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]scope.Document{
		"plain": {Body: []byte(long)}, "gzipped": {Body: zipped.Bytes(), Gzipped: true},
	} {
		if raw, err := d.Plain(); err != nil || string(raw) != long {
			t.Errorf("%s: %d bytes, %v", name, len(raw), err)
		}
	}
	for name, body := range map[string][]byte{"empty": nil, "not compressed": []byte(long), "cut short": zipped.Bytes()[:zipped.Len()-9]} {
		if raw, err := (scope.Document{Body: body, Gzipped: true}).Plain(); err == nil || raw != nil {
			t.Errorf("%s: %d bytes, %v", name, len(raw), err)
		}
	}
}
