package registry_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/registry"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// TestBrokenBlob: what cannot be finished is cut, and what fails before its first byte is an error.
func TestBrokenBlob(t *testing.T) {
	for name, test := range map[string]struct {
		body   string // what comes before the end
		err    error
		status int
	}{
		"before the first byte":           {"", fail(upstream.Broken), 502},
		"not there after all":             {"", fail(upstream.NotFound), 404},
		"ended before the first byte":     {"", nil, 500},
		"broken off":                      {"lay", fail(upstream.Dropped), 0},
		"short":                           {"laye", nil, 0},
		"longer than it is":               {"layers and layers", nil, 200},
		"an error after all that it said": {"layer", fail(upstream.Dropped), 200},
	} {
		s, _ := public()
		s.body = func([]byte, int64) (io.ReadCloser, error) {
			end := test.err
			if end == nil {
				end = io.EOF
			}
			return io.NopCloser(io.MultiReader(strings.NewReader(test.body), failing{end})), nil
		}
		server := httptest.NewServer(s.handler(t))
		resp, err := http.Get(server.URL + "/v2/app/blobs/" + digestOf("layer").String() + ns)
		if err != nil { // cut before anything was flushed
			resp = &http.Response{Body: io.NopCloser(failing{err})}
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		server.Close()
		switch {
		case test.status == 0 && err == nil:
			t.Errorf("%s: %q was taken for the whole", name, body)
		case test.status == 200 && (err != nil || string(body) != "layer"):
			t.Errorf("%s: %q, %v", name, body, err)
		case test.status != 0 && resp.StatusCode != test.status:
			t.Errorf("%s: %d, want %d", name, resp.StatusCode, test.status)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestClientThatStalls is given up, and what it held is let go.
func TestClientThatStalls(t *testing.T) {
	s, _ := public()
	closed := make(chan struct{})
	s.body = func([]byte, int64) (io.ReadCloser, error) { return &endless{closed: closed}, nil }
	cfg := s.config()
	cfg.Content = large{s}
	cfg.Stall = 200 * time.Millisecond
	h, err := registry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	defer server.Close()
	resp, err := http.Get(server.URL + "/v2/app/blobs/" + digestOf("layer").String() + ns)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() // and reads nothing of it
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Fatal("who reads nothing is served for ever")
	}
}

// TestClientThatLeaves: what is read for it ends.
func TestClientThatLeaves(t *testing.T) {
	s, _ := public()
	closed := make(chan struct{})
	s.body = func([]byte, int64) (io.ReadCloser, error) { return &endless{closed: closed}, nil }
	cfg := s.config()
	cfg.Content = large{s}
	h, err := registry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	defer server.Close()
	ctx, leave := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "GET", server.URL+"/v2/app/blobs/"+digestOf("layer").String()+ns, nil)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	leave()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Fatal("the blob is still being read for a client that left")
	}
}

// large says of every blob that it has a terabyte.
type large struct{ *site }

func (l large) Blob(ctx context.Context, ref oci.Reference, c upstream.Credential) (registry.BlobContent, error) {
	b, err := l.site.Blob(ctx, ref, c)
	b.Size = 1 << 40
	return b, err
}

type endless struct{ closed chan struct{} }

func (e *endless) Read(p []byte) (int, error) { return len(p), nil }
func (e *endless) Close() error               { close(e.closed); return nil }

// TestLinkAndLeave: the first bytes do not wait for the disk, and what a caller that left was given still belongs to its repository.
func TestLinkAndLeave(t *testing.T) {
	s, f := public()
	s.linking = make(chan struct{})
	closed := make(chan struct{})
	s.body = func([]byte, int64) (io.ReadCloser, error) { return &endless{closed: closed}, nil }
	cfg := s.config()
	cfg.Content = large{s}
	h, err := registry.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	defer server.Close()
	linked := sync.OnceFunc(func() { close(s.linking) })
	defer linked()
	ctx, leave := context.WithTimeout(t.Context(), 20*time.Second)
	defer leave()
	r, _ := http.NewRequestWithContext(ctx, "GET", server.URL+"/v2/app/blobs/"+digestOf("layer").String()+ns, nil)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	leave()
	<-closed
	linked()
	server.Close() // waits for the handler
	f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
	s.body = nil
	if w := do(t, s.handler(t), "GET", "app/blobs/"+digestOf("layer").String()+ns); w.Code != 200 || w.Body.String() != "layer" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
