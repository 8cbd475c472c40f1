package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/registry"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

const ns = "?ns=reg.example"

// public is a site whose registry has one public image, "app", with one layer, "layer".
func public() (*site, *fake) {
	f := &fake{repos: map[string]*repository{"app": image("", "layer")}}
	return newSite(f), f
}

func TestPull(t *testing.T) {
	s, f := public()
	h, app := s.handler(t), f.repos["app"]
	manifest := string(app.manifests[app.v1()])
	layer := "app/blobs/" + digestOf("layer").String() + ns
	type want struct {
		status int
		body   string
		header []string
	}
	for _, test := range []struct {
		name, method, path string
		headers            []string
		want               want
	}{
		{"ping", "GET", "", nil, want{200, "{}", []string{"Docker-Distribution-Api-Version", "registry/2.0"}}},
		{"head of a tag", "HEAD", "app/manifests/v1" + ns, nil, want{200, "", []string{"Docker-Content-Digest", app.v1().String(), "Content-Type", oci.MediaTypeManifest, "Content-Length", fmt.Sprint(len(manifest))}}},
		{"tag", "GET", "app/manifests/v1" + ns, nil, want{200, manifest, []string{"Docker-Content-Digest", app.v1().String(), "Content-Type", oci.MediaTypeManifest, "ETag", `"` + app.v1().String() + `"`}}},
		{"digest", "GET", "app/manifests/" + app.v1().String() + ns, nil, want{200, manifest, []string{"Content-Length", fmt.Sprint(len(manifest))}}},
		{"head of a digest", "HEAD", "app/manifests/" + app.v1().String() + ns, nil, want{200, "", []string{"Content-Length", fmt.Sprint(len(manifest))}}},
		{"by path", "GET", "reg.example/app/manifests/v1", nil, want{200, manifest, nil}},
		{"unchanged", "GET", "app/manifests/v1" + ns, []string{"If-None-Match", `"x", W/"` + app.v1().String() + `"`}, want{304, "", nil}},
		{"head of a blob", "HEAD", layer, nil, want{200, "", []string{"Content-Length", "5", "Accept-Ranges", "bytes"}}},
		{"blob", "GET", layer, nil, want{200, "layer", []string{"Content-Type", "application/octet-stream", "Docker-Content-Digest", digestOf("layer").String()}}},
		{"unchanged blob", "GET", layer, []string{"If-None-Match", `"` + digestOf("layer").String() + `"`}, want{304, "", nil}},
		{"range", "GET", layer, []string{"Range", "bytes=1-2"}, want{206, "ay", []string{"Content-Range", "bytes 1-2/5", "Content-Length", "2"}}},
		{"rest", "GET", layer, []string{"Range", "bytes=3-"}, want{206, "er", []string{"Content-Range", "bytes 3-4/5"}}},
		{"end", "GET", layer, []string{"Range", "bytes=-2"}, want{206, "er", []string{"Content-Range", "bytes 3-4/5"}}},
		{"two ranges", "GET", layer, []string{"Range", "bytes=0-1,3-4"}, want{200, "layer", nil}},
		{"range of the same", "GET", layer, []string{"Range", "bytes=3-", "If-Range", `"` + digestOf("layer").String() + `"`}, want{206, "er", nil}},
		{"range of another", "GET", layer, []string{"Range", "bytes=3-", "If-Range", `"sha256:else"`}, want{200, "layer", nil}},
		{"range outside", "GET", layer, []string{"Range", "bytes=5-"}, want{416, "RANGE_INVALID", []string{"Content-Range", "bytes */5"}}},
		{"no such tag", "GET", "app/manifests/v2" + ns, nil, want{404, "MANIFEST_UNKNOWN", nil}},
		{"head of no such tag", "HEAD", "app/manifests/v2" + ns, nil, want{404, "", nil}},
		{"no such digest", "GET", "app/manifests/" + digestOf("x").String() + ns, nil, want{404, "MANIFEST_UNKNOWN", nil}},
		{"no such blob", "GET", "app/blobs/" + digestOf("x").String() + ns, nil, want{404, "BLOB_UNKNOWN", nil}},
		{"head of no such blob", "HEAD", "app/blobs/" + digestOf("x").String() + ns, nil, want{404, "", nil}},
		{"no such repository", "GET", "none/manifests/v1" + ns, nil, want{404, "MANIFEST_UNKNOWN", nil}},
		{"not declared", "GET", "app/manifests/v1?ns=evil.example", nil, want{404, "NAME_UNKNOWN", nil}},
		{"push", "PUT", "app/manifests/v1" + ns, nil, want{405, "UNSUPPORTED", []string{"Allow", "GET, HEAD"}}},
		{"upload", "POST", "app/blobs/uploads/" + ns, nil, want{405, "UNSUPPORTED", nil}},
		{"delete", "DELETE", "app/manifests/v1" + ns, nil, want{405, "UNSUPPORTED", nil}},
	} {
		w := do(t, h, test.method, test.path, test.headers...)
		body := w.Body.String()
		if w.Code >= 400 && test.method != "HEAD" {
			body = codeOf(t, w)
		}
		if w.Code != test.want.status || body != test.want.body {
			t.Errorf("%s: %d %q, want %d %q", test.name, w.Code, w.Body, test.want.status, test.want.body)
		}
		for i := 0; i < len(test.want.header); i += 2 {
			if name, value := test.want.header[i], test.want.header[i+1]; w.Header().Get(name) != value {
				t.Errorf("%s: %s is %q, want %q", test.name, name, w.Header().Get(name), value)
			}
		}
		if w.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("%s: what is public was challenged", test.name)
		}
	}
	for _, asked := range s.asks() {
		if strings.Contains(asked, "evil") {
			t.Errorf("asked %s", asked)
		}
	}
	for _, r := range s.served {
		if r.Status == 0 || r.Method == "" {
			t.Errorf("told of %+v", r)
		}
	}
}

// TestFewQuestions: a pull of a public image that nobody has yet asks upstream once whether it may, and for each thing once.
func TestFewQuestions(t *testing.T) {
	s, f := public()
	h, app := s.handler(t), f.repos["app"]
	pull := func() {
		for _, path := range []string{"app/manifests/v1", "app/manifests/" + app.v1().String(), "app/blobs/" + digestOf("layer").String()} {
			if w := do(t, h, "GET", path+ns); w.Code != 200 {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
		}
	}
	pull()
	want := []string{
		`HEAD reg.example/app:v1 as ""`,
		`GET reg.example/app@` + app.v1().String() + ` as ""`,
		`GET blob reg.example/app@` + digestOf("layer").String() + ` as ""`,
	}
	if got := s.asks(); !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
	writes := s.writes
	pull()
	if got := s.asks(); !slices.Equal(got, want[:1]) {
		t.Errorf("the second time: asked %q, want %q", got, want[:1])
	}
	if s.writes != writes {
		t.Errorf("the second pull wrote %d times", s.writes-writes)
	}
	s.pass(6 * time.Minute) // what was decided is asked again, and written only if it changed
	pull()
	if got := s.asks(); !slices.Equal(got, want[:1]) || s.writes != writes {
		t.Errorf("later: asked %q and wrote %d times", got, s.writes-writes)
	}
}

// TestAtOnce: twenty that ask the same at once are one question.
func TestAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, f := public()
		gate := &gated{fake: f, open: make(chan struct{})}
		s := newSite(gate)
		h := s.handler(t)
		codes := make(chan int, 20)
		for range 20 {
			go func() { codes <- do(t, h, "HEAD", "app/manifests/v1"+ns).Code }()
		}
		synctest.Wait()
		if got := s.asks(); len(got) != 1 {
			t.Errorf("asked %d times", len(got))
		}
		close(gate.open)
		for range 20 {
			if code := <-codes; code != 200 {
				t.Errorf("answered %d", code)
			}
		}
	})
}

// gated answers once it is opened.
type gated struct {
	*fake
	open chan struct{}
}

func (g *gated) manifest(ref oci.Reference, c upstream.Credential) (string, []byte, error) {
	<-g.open
	return g.fake.manifest(ref, c)
}

// TestAskerThatLeaves does not take the answer from the others.
func TestAskerThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, f := public()
		gate := &gated{fake: f, open: make(chan struct{})}
		h := newSite(gate).handler(t)
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan any, 1)
		go func() {
			defer func() { left <- recover() }()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "HEAD", "/v2/app/manifests/v1"+ns, nil))
		}()
		stays := make(chan int, 1)
		synctest.Wait()
		go func() { stays <- do(t, h, "HEAD", "app/manifests/v1"+ns).Code }()
		synctest.Wait()
		leave()
		if got := <-left; got != http.ErrAbortHandler {
			t.Errorf("who left was answered: %v", got)
		}
		close(gate.open)
		if code := <-stays; code != 200 {
			t.Errorf("who stayed got %d", code)
		}
	})
}

// TestUpstreamFails: what each failure of a registry is to a client that asks for something new.
func TestUpstreamFails(t *testing.T) {
	retry := &upstream.Error{Kind: upstream.RateLimited, Err: errors.New("later"), RetryAfter: 90 * time.Second}
	for _, test := range []struct {
		err    error
		status int
		code   string
	}{
		{fail(upstream.NotFound), 404, "MANIFEST_UNKNOWN"},
		{fail(upstream.Unavailable), 404, "MANIFEST_UNKNOWN"},
		{fail(upstream.Unauthorized), 401, "UNAUTHORIZED"},
		{fail(upstream.Denied), 401, "UNAUTHORIZED"}, // of nobody: somebody may be allowed
		{retry, 503, "UNAVAILABLE"},
		{fail(upstream.Broken), 502, "UNAVAILABLE"},
		{fail(upstream.ErrorPage), 502, "UNAVAILABLE"},
		{fail(upstream.Dropped), 502, "UNAVAILABLE"},
		{fail(upstream.Refused), 502, "UNAVAILABLE"},
		{fail(upstream.Unexpected), 502, "UNAVAILABLE"},
		{fail(upstream.Stalled), 504, "UNAVAILABLE"},
		{errors.New("the disk is on fire"), 500, "UNKNOWN"},
	} {
		s, f := public()
		f.fails = test.err
		w := do(t, s.handler(t), "GET", "app/manifests/v1"+ns)
		if code := codeOf(t, w); w.Code != test.status || code != test.code {
			t.Errorf("%v: %d %s, want %d %s", test.err, w.Code, code, test.status, test.code)
		}
		if after := w.Header().Get("Retry-After"); (after == "90") != (test.err == error(retry)) {
			t.Errorf("%v: Retry-After %q", test.err, after)
		}
		// What the node has goes on being served, whatever ails the registry.
		s, f = public()
		h := s.handler(t)
		paths := []string{"app/manifests/v1" + ns, "app/manifests/" + f.repos["app"].v1().String() + ns, "app/blobs/" + digestOf("layer").String() + ns}
		for _, path := range paths {
			if w := do(t, h, "GET", path); w.Code != 200 {
				t.Fatalf("%s: %d %s", path, w.Code, w.Body)
			}
		}
		f.fails = test.err
		served := test.status >= 500 || errors.Is(test.err, upstream.Unavailable)
		for _, path := range paths {
			if w := do(t, s.handler(t), "GET", path); (w.Code == 200) != served {
				t.Errorf("%v: %s is %d once it was pulled", test.err, path, w.Code)
			}
		}
	}
}

func TestSigned(t *testing.T) {
	s, f := public()
	h, app := s.handler(t), f.repos["app"]
	paths := []string{"app/manifests/v1", "app/manifests/" + app.v1().String(), "app/blobs/" + digestOf("layer").String()}
	for _, test := range []struct {
		gate   error
		status int
		code   string
	}{
		{errors.New("no signature by release@example.com"), 403, "DENIED"},
		{fail(upstream.Unavailable), 404, ""},
		{nil, 200, ""},
	} {
		s.signed["app"] = test.gate
		for _, path := range paths {
			for _, method := range []string{"GET", "HEAD"} {
				w := do(t, h, method, path+ns)
				if w.Code != test.status || bytes.Contains(w.Body.Bytes(), []byte("layer")) && test.gate != nil {
					t.Errorf("%v: %s %s: %d %s", test.gate, method, path, w.Code, w.Body)
				}
				if method == "GET" && test.code != "" && (codeOf(t, w) != test.code || !strings.Contains(w.Body.String(), "no signature by")) {
					t.Errorf("%v: %s: %s", test.gate, path, w.Body)
				}
			}
		}
		if test.gate != nil && len(s.store) != 0 {
			t.Error("what is not signed was fetched")
		}
	}
}

// TestManyTags walks through ten thousand tags, a page at a time and at once, online and offline.
func TestManyTags(t *testing.T) {
	s, f := public()
	h, app := s.handler(t), f.repos["app"]
	for i := range 10000 {
		tag := fmt.Sprintf("t%05d", i)
		app.tags[tag] = app.v1()
		s.tagged["reg.example/app:"+tag] = registry.Tag{Digest: app.v1()}
	}
	delete(app.tags, "v1")
	if w := do(t, h, "GET", "app/manifests/t00000"+ns); w.Code != 200 {
		t.Fatal(w.Body)
	}
	for _, offline := range []bool{false, true} {
		if offline {
			f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
		}
		for _, n := range []int{9, 1999, 20000} {
			var all []string
			path, pages := fmt.Sprintf("app/tags/list%s&n=%d", ns, n), 0
			for path != "" {
				w := do(t, h, "GET", path)
				var page struct {
					Name string
					Tags []string
				}
				if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != 200 || page.Name != "app" || len(page.Tags) == 0 || len(page.Tags) > n {
					t.Fatalf("%s: %d %.100s, %v", path, w.Code, w.Body, err)
				}
				all = append(all, page.Tags...)
				link, _, _ := strings.Cut(w.Header().Get("Link"), ">; rel=\"next\"")
				path = strings.TrimPrefix(strings.TrimPrefix(link, "<"), "/v2/")
				if pages++; n == 9 && pages == 3 {
					break // the rest is the same
				}
			}
			if want := min(10000, map[int]int{9: 27}[n]+map[bool]int{true: 10000}[n != 9]); len(all) != want || !slices.IsSorted(all) || len(slices.Compact(all)) != want {
				t.Errorf("offline %v, pages of %d: %d tags, want %d", offline, n, len(all), want)
			}
		}
	}
	for path, want := range map[string]int{"n=0": 200, "n=-1": 400, "n=x": 400, "n=99999999999999999999": 400, "last=" + strings.Repeat("x", 200): 400, "last=../..": 400} {
		if w := do(t, h, "GET", "app/tags/list"+ns+"&"+path); w.Code != want {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestReferrers(t *testing.T) {
	s, f := public()
	h, app := s.handler(t), f.repos["app"]
	app.referrers = []oci.Descriptor{
		{MediaType: oci.MediaTypeManifest, Digest: digestOf("sig"), Size: 3, ArtifactType: "a/sig", Annotations: map[string]string{"k": "v"}},
		{MediaType: oci.MediaTypeManifest, Digest: digestOf("sbom"), Size: 4, ArtifactType: "a/sbom"},
	}
	list := func(path string) (index oci.Index, w *httptest.ResponseRecorder) {
		t.Helper()
		w = do(t, h, "GET", path)
		if w.Code == 200 {
			if err := json.Unmarshal(w.Body.Bytes(), &index); err != nil || w.Header().Get("Content-Type") != oci.MediaTypeIndex || index.SchemaVersion != 2 || !strings.Contains(w.Body.String(), `"manifests":[`) {
				t.Errorf("%s: %s, %v", path, w.Body, err)
			}
		}
		return index, w
	}
	subject := "app/referrers/" + app.v1().String() + ns
	if w := do(t, h, "GET", "app/manifests/v1"+ns); w.Code != 200 {
		t.Fatal(w.Body)
	}
	for range 2 {
		if all, _ := list(subject); len(all.Manifests) != 2 || all.Manifests[0].Annotations["k"] != "v" {
			t.Errorf("%+v", all)
		}
		one, w := list(subject + "&artifactType=a/sbom")
		if len(one.Manifests) != 1 || one.Manifests[0].Digest != digestOf("sbom") || w.Header().Get("OCI-Filters-Applied") != "artifactType" {
			t.Errorf("%+v", one)
		}
		f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) }) // what was seen stays
	}
	if w := do(t, h, "GET", "app/referrers/"+digestOf("never seen").String()+ns); w.Code != 404 {
		t.Errorf("nothing is known, and the answer is %d %s", w.Code, w.Body)
	}
	f.set(func(f *fake) { f.fails = nil })
	if none, w := list("none/referrers/" + app.v1().String() + ns); w.Code != 200 || len(none.Manifests) != 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestFullDisk: what cannot be kept is served all the same, and what is denied stays denied.
func TestFullDisk(t *testing.T) {
	s, f := private()
	f.repos["app"].referrers = []oci.Descriptor{{Digest: digestOf("sig")}}
	s.full = errors.New("no space left on device")
	h := s.handler(t)
	public := []string{"app/manifests/v1" + ns, "app/blobs/" + digestOf("layer").String() + ns, "app/referrers/" + f.repos["app"].v1().String() + ns}
	for range 2 {
		answers(t, h, public, 200)
		answers(t, h, vault(f), 401)
		answers(t, h, vault(f), 401, as("alice", "guess")...)
		answers(t, h, vault(f), 200, as("alice", "s3cret")...)
	}
	f.hides = true
	answers(t, s.handler(t), vault(f), 200, as("alice", "s3cret")...)
	for _, what := range []string{"who may read it", "the tag", "that it belongs to its repository", "what refers to it"} {
		if !strings.Contains(s.log.String(), what) {
			t.Errorf("nothing is said of %q", what)
		}
	}
}

// TestDamagedMeta: as long as upstream answers, what cannot be read is asked again. Otherwise nothing is shown.
func TestDamagedMeta(t *testing.T) {
	s, f := private()
	h := s.handler(t)
	answers(t, h, vault(f), 200, as("alice", "s3cret")...)
	s.damaged = errors.New("page 7 is damaged")
	answers(t, h, vault(f), 200, as("alice", "s3cret")...)
	answers(t, h, []string{"app/blobs/" + digestOf("gold").String() + ns}, 404)
	f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
	answers(t, h, vault(f)[1:], 404, as("alice", "s3cret")...)
}
