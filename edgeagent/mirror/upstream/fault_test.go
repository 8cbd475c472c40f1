package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

func TestStatuses(t *testing.T) {
	for _, test := range []struct {
		status int
		header http.Header
		want   Kind
		after  time.Duration
	}{
		{status: 400, want: Unexpected},
		{status: 401, want: Unauthorized},
		{status: 403, want: Denied},
		{status: 404, want: NotFound},
		{status: 410, want: NotFound},
		{status: 418, want: Unexpected},
		{status: 204, want: Unexpected},
		{status: 206, want: Unexpected}, // nobody asked for a part
		{status: 304, want: Unexpected},
		{status: 429, want: RateLimited},
		{status: 429, header: http.Header{"Retry-After": {"17"}}, want: RateLimited, after: 17 * time.Second},
		{status: 429, header: http.Header{"Retry-After": {"-1"}}, want: RateLimited},
		{status: 429, header: http.Header{"Retry-After": {"99999999"}}, want: RateLimited, after: 24 * time.Hour},
		{status: 429, header: http.Header{"Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}, "Retry-After": {"Mon, 02 Jan 2006 15:05:05 GMT"}}, want: RateLimited, after: time.Minute},
		{status: 429, header: http.Header{"Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}, "Retry-After": {"Mon, 02 Jan 2006 15:03:05 GMT"}}, want: RateLimited},
		{status: 500, want: Broken},
		{status: 503, header: http.Header{"Retry-After": {"5"}}, want: Broken, after: 5 * time.Second},
	} {
		t.Run(fmt.Sprint(test.status, test.header), func(t *testing.T) {
			reg, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				for name, values := range test.header {
					w.Header()[name] = values
				}
				w.WriteHeader(test.status)
				if test.status != 204 && test.status != 304 {
					fmt.Fprint(w, `{"errors":[{"code":"SAID","message":"why\nso"}]}`)
				}
			})
			r := client(t, reg, Config{})
			e := wantKind(t, getManifest(r), test.want)
			if e.RetryAfter != test.after {
				t.Errorf("retry after %v, want %v", e.RetryAfter, test.after)
			}
			if test.status >= 402 && !strings.Contains(e.Error(), `"SAID: why\nso"`) {
				t.Errorf("the error is %q, without what the registry says", e)
			}
			if _, err := r.Head(t.Context(), "team/app", "v1"); test.status > 206 {
				wantKind(t, err, test.want)
			}
		})
	}
}

// blobTest is a way in which a registry answers about a blob, and what comes of it.
type blobTest struct {
	name       string
	handler    http.HandlerFunc
	size, from int64
	want       Kind
	bytes      int // that come before the error
}

// theBlob is the one that these tests are about.
func theBlob() []byte { return []byte(strings.Repeat("0123456789", 10_000)) }

func (test blobTest) run(t *testing.T) {
	blob := theBlob()
	digest, size := oci.SHA256.FromBytes(blob), int64(len(blob))
	reg, requests := serve(t, func(w http.ResponseWriter, r *http.Request) { test.handler(w, r) })
	cfg := Config{}
	if test.want == Stalled {
		cfg.Idle = 300 * time.Millisecond
	}
	got, err := readBlob(client(t, reg, cfg), digest, test.size, test.from)
	if test.want == "" && err != nil {
		t.Fatal(err)
	}
	if test.want != "" {
		wantKind(t, err, test.want)
	}
	if len(got) != test.bytes || !strings.HasPrefix(string(blob[min(max(test.from, 0), size):]), string(got)) {
		t.Errorf("got %d bytes, want %d of the blob's own", len(got), test.bytes)
	}
	if want := fmt.Sprintf("bytes=%d-", test.from); test.from > 0 && test.from <= size && requests.all()[0].Header.Get("Range") != want {
		t.Errorf("sent Range %q, want %q", requests.all()[0].Header.Get("Range"), want)
	}
}

// whole sends a blob, drop a part of it and then nothing more, chunks a part of it as if it were all.
func whole(w http.ResponseWriter, _ *http.Request) { w.Write(theBlob()) }

func drop(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "100000")
	w.Write(theBlob()[:50000])
	panic(http.ErrAbortHandler)
}

func short(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "50000")
	w.Write(theBlob()[:50000])
}

func chunks(w http.ResponseWriter, _ *http.Request) {
	w.Write(theBlob()[:50000])
	w.(http.Flusher).Flush()
}

// TestBlobFaults has each way in which a blob may come wrong.
func TestBlobFaults(t *testing.T) {
	blob := theBlob()
	size := int64(len(blob))
	page := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, "<html>please log in</html>")
	}
	for _, test := range []blobTest{
		{name: "whole", handler: whole, size: size, bytes: len(blob)},
		{name: "whole of unknown size", handler: whole, size: -1, bytes: len(blob)},
		{name: "dropped in the middle", handler: drop, size: size, bytes: 50000, want: Dropped},
		{name: "chunked and too short", handler: chunks, size: size, bytes: 50000, want: Dropped},
		{name: "chunked and too long", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Write(blob)
			w.(http.Flusher).Flush()
			w.Write(blob)
		}, size: size, bytes: len(blob), want: ErrorPage},
		{name: "wrong length", handler: short, size: size, want: ErrorPage},
		{name: "a page", handler: page, size: size, want: ErrorPage},
		{name: "a page, unknown size", handler: page, size: -1, want: ErrorPage},
		{name: "silent before the answer", handler: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, size: size, want: Stalled},
		{name: "silent in the middle", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			w.Write(blob[:50000])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, size: size, bytes: 50000, want: Stalled},
		{name: "hangs up", handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, size: size, want: Dropped},
	} {
		t.Run(test.name, test.run)
	}
}

// TestBlobParts is the same for a download that goes on in the middle.
func TestBlobParts(t *testing.T) {
	blob := theBlob()
	size := int64(len(blob))
	partial := func(contentRange string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", contentRange)
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			w.WriteHeader(http.StatusPartialContent)
			w.Write(body)
		}
	}
	for _, test := range []blobTest{
		{name: "from the middle", handler: partial("bytes 60000-99999/100000", blob[60000:]), size: size, from: 60000, bytes: 40000},
		{name: "from the middle, total unknown", handler: partial("bytes 60000-99999/*", blob[60000:]), size: size, from: 60000, bytes: 40000},
		{name: "no Range there", handler: whole, size: size, from: 60000, bytes: 40000},
		{name: "no Range there, unknown size", handler: whole, size: -1, from: 60000, bytes: 40000},
		{name: "dropped in what is passed over", handler: drop, size: size, from: 60000, want: Dropped},
		{name: "chunked and shorter than what is here", handler: chunks, size: size, from: 60000, want: Dropped},
		{name: "shorter than what is here", handler: short, size: -1, from: 60000, want: ErrorPage},
		{name: "part of something else", handler: partial("bytes 60000-99998/99999", blob[60001:]), size: size, from: 60000, want: ErrorPage},
		{name: "another part", handler: partial("bytes 50000-99999/100000", blob[50000:]), size: size, from: 60000, want: ErrorPage},
		{name: "a part without a name", handler: partial("", blob[60000:]), size: size, from: 60000, want: ErrorPage},
		{name: "a part that is cut short", handler: partial("bytes 60000-69999/100000", blob[60000:70000]), size: size, from: 60000, bytes: 10000, want: Dropped},
		{name: "a part longer than it says", handler: partial("bytes 60000-69999/100000", blob[60000:]), size: size, from: 60000, want: ErrorPage},
		{name: "416", handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(416) }, size: size, from: 60000, want: Unexpected},
		{name: "an offset past the end", size: size, from: size + 1, want: Refused},
		{name: "a negative offset", size: size, from: -1, want: Refused},
	} {
		t.Run(test.name, test.run)
	}
}

func TestBlobSize(t *testing.T) {
	digest := oci.SHA256.FromBytes(nil)
	reg, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "page") {
			w.Header().Set("Content-Type", "text/html")
		}
		w.Header().Set("Content-Length", "42")
	})
	r := client(t, reg, Config{})
	if size, err := r.BlobSize(t.Context(), "team/app", digest); err != nil || size != 42 {
		t.Errorf("got %d, %v", size, err)
	}
	_, err := r.BlobSize(t.Context(), "page", digest)
	wantKind(t, err, ErrorPage)
}

func TestManifestFaults(t *testing.T) {
	raw := manifestOf([]byte("layer"))
	digest := oci.SHA256.FromBytes(raw).String()
	send := func(contentType, says string, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			if says != "" {
				w.Header().Set("Docker-Content-Digest", says)
			}
			fmt.Fprint(w, body)
		}
	}
	other := oci.SHA256.FromBytes([]byte("other")).String()
	for _, test := range []struct {
		name      string
		reference string
		handler   http.HandlerFunc
		want      Kind
	}{
		{"a tag", "v1", send(oci.MediaTypeManifest, digest, string(raw)), ""},
		{"a digest", digest, send(oci.MediaTypeManifest, "", string(raw)), ""},
		{"a content type that says nothing", "v1", send("application/json", "", string(raw)), ""},
		{"another digest", other, send(oci.MediaTypeManifest, digest, string(raw)), ErrorPage},
		{"a digest of something else", "v1", send(oci.MediaTypeManifest, other, string(raw)), ErrorPage},
		{"a digest that is none", "v1", send(oci.MediaTypeManifest, "md5:1", string(raw)), ErrorPage},
		{"a page", "v1", send("text/html", "", "<html>"), ErrorPage},
		{"a page called a manifest", "v1", send(oci.MediaTypeManifest, "", "<html>"), ErrorPage},
		{"an image called an index", "v1", send(oci.MediaTypeIndex, "", string(raw)), ErrorPage},
		{"nothing", "v1", send(oci.MediaTypeManifest, "", ""), ErrorPage},
		{"truncated", "v1", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
			w.Write(raw[:20])
		}, Dropped},
		{"no tag", "../../etc", nil, Refused},
		{"no digest", "sha256:../../etc", nil, Refused},
	} {
		t.Run(test.name, func(t *testing.T) {
			reg, requests := serve(t, func(w http.ResponseWriter, r *http.Request) { test.handler(w, r) })
			r := client(t, reg, Config{})
			m, err := r.Manifest(t.Context(), "team/app", test.reference)
			if test.want != "" {
				wantKind(t, err, test.want)
				if test.handler == nil && len(requests.all()) > 0 {
					t.Error("the registry was asked for what cannot be")
				}
				return
			}
			if err != nil || m.Digest.String() != digest || string(m.Raw) != string(raw) || len(m.Layers) != 1 {
				t.Errorf("got %+v, %v", m, err)
			}
		})
	}
	r := client(t, nil, Config{Host: "127.0.0.1:1"})
	for _, repository := range []string{"", "../x", "A", "a//b", "a/../../v2/b", "a?b", "a%2fb"} {
		_, err := r.Manifest(t.Context(), repository, "v1")
		wantKind(t, err, Refused)
		_, err = r.Blob(t.Context(), repository, oci.SHA256.FromBytes(nil), -1, 0)
		wantKind(t, err, Refused)
		_, _, err = r.Tags(t.Context(), repository, "", 0)
		wantKind(t, err, Refused)
		_, err = r.Referrers(t.Context(), repository, oci.SHA256.FromBytes(nil), "")
		wantKind(t, err, Refused)
	}
	_, err := r.Blob(t.Context(), "team/app", oci.Digest{}, -1, 0)
	wantKind(t, err, Refused)
}

// TestHugeManifest: a manifest of 100 MB is given up at 4 MiB, also if nothing says how long it is.
func TestHugeManifest(t *testing.T) {
	const huge = 100 << 20
	for _, declared := range []bool{true, false} {
		var sent atomic.Int64
		gone := make(chan struct{})
		reg, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			defer close(gone)
			w.Header().Set("Content-Type", oci.MediaTypeManifest)
			if declared {
				w.Header().Set("Content-Length", fmt.Sprint(huge))
			}
			for sent.Load() < huge {
				n, err := w.Write(make([]byte, 64<<10))
				if sent.Add(int64(n)); err != nil {
					return
				}
			}
		})
		err := getManifest(client(t, reg, Config{}))
		if wantKind(t, err, Refused); !errors.Is(err, oci.ErrTooLarge) {
			t.Errorf("got %v, want oci.ErrTooLarge", err)
		}
		<-gone // the kernel's buffers take a few MiB more than were read
		if n := sent.Load(); n > 24<<20 {
			t.Errorf("declared=%v: the registry sent %d MiB before the client gave up", declared, n>>20)
		}
	}
}

func TestHead(t *testing.T) {
	raw := manifestOf([]byte("layer"))
	want := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: oci.SHA256.FromBytes(raw), Size: int64(len(raw))}
	for _, test := range []struct {
		name    string
		head    http.HandlerFunc
		methods string
	}{
		{"in full", func(w http.ResponseWriter, r *http.Request) { sendManifest(w, r, raw) }, "HEAD"},
		{"no digest", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Type", oci.MediaTypeManifest) }, "HEAD GET"},
		{"not allowed", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) }, "HEAD GET"},
	} {
		reg, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				test.head(w, r)
				return
			}
			sendManifest(w, r, raw)
		})
		got, err := client(t, reg, Config{}).Head(t.Context(), "team/app", "v1")
		if err != nil || got.Digest != want.Digest || got.Size != want.Size || got.MediaType != want.MediaType {
			t.Errorf("%s: got %+v, %v, want %+v", test.name, got, err, want)
		}
		var methods []string
		for _, r := range requests.all() {
			methods = append(methods, r.Method)
		}
		if strings.Join(methods, " ") != test.methods {
			t.Errorf("%s: asked with %v, want %s", test.name, methods, test.methods)
		}
	}
	reg, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { sendManifest(w, r, raw) })
	_, err := client(t, reg, Config{}).Head(t.Context(), "team/app", oci.SHA256.FromBytes(nil).String())
	wantKind(t, err, ErrorPage)
}
