package upstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// TestTenThousandTags come in pages, in order, and hostile names among them do not.
func TestTenThousandTags(t *testing.T) {
	var want []string
	for i := range 10_000 {
		want = append(want, fmt.Sprintf("v%05d", i))
	}
	all := append([]string{"../../etc/passwd", "", "a b", "-x", strings.Repeat("a", 129)}, want...)
	reg, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Query().Get("n"))
		if err != nil {
			n = len(all)
		}
		begin := 0
		if last := r.URL.Query().Get("last"); last != "" {
			begin = slices.Index(all, last) + 1
		}
		page := all[begin:min(begin+n, len(all))]
		if begin+n < len(all) {
			// The host is not ours to follow: only the query counts.
			w.Header().Set("Link", fmt.Sprintf(`<https://elsewhere.invalid/v2/x/tags/list?n=%d&last=%s>; rel="next"`, n, page[len(page)-1]))
		}
		json.NewEncoder(w).Encode(map[string]any{"name": "team/app", "tags": page})
	})
	r := client(t, reg, Config{})
	got, more, err := r.Tags(t.Context(), "team/app", "", 0)
	if err != nil || more || !slices.Equal(got, want) {
		t.Errorf("%d tags, more: %v, %v", len(got), more, err)
	}
	if n := len(requests.all()); n != 11 {
		t.Errorf("asked for %d pages, want 11", n)
	}
	got, more, err = r.Tags(t.Context(), "team/app", "v04999", 2500)
	if err != nil || !more || !slices.Equal(got, want[5000:7500]) {
		t.Errorf("a part: %d tags, more: %v, %v", len(got), more, err)
	}
	got, more, err = r.Tags(t.Context(), "team/app", "v09989", 10)
	if err != nil || more || !slices.Equal(got, want[9990:]) {
		t.Errorf("the last part: %v, more: %v, %v", got, more, err)
	}
}

// TestTagsFromTheBeginning: a registry that always sends all gives the same.
func TestTagsFromTheBeginning(t *testing.T) {
	reg, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"tags":["d","b","a","c"]}`) })
	r := client(t, reg, Config{})
	for _, test := range []struct {
		after string
		n     int
		want  string
		more  bool
	}{{"", 0, "a b c d", false}, {"", 2, "a b", true}, {"b", 1, "c", true}, {"b", 2, "c d", false}, {"d", 2, "", false}, {"bb", 3, "c d", false}} {
		got, more, err := r.Tags(t.Context(), "team/app", test.after, test.n)
		if err != nil || more != test.more || strings.Join(got, " ") != test.want {
			t.Errorf("%d after %q: got %v, more: %v, %v; want %+v", test.n, test.after, got, more, err, test)
		}
	}
}

func TestBadLists(t *testing.T) {
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		want    Kind
		most    int // requests
	}{
		{"endless pages", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", `</v2/team/app/tags/list?last=a>; rel=next`)
			fmt.Fprint(w, `{"tags":["a"]}`)
		}, Refused, maxPages},
		{"endless tags", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", `</v2/team/app/tags/list?last=a>; rel="next"`)
			fmt.Fprintf(w, `{"tags":["a"%s]}`, strings.Repeat(`,"a"`, 50_000))
		}, Refused, 3},
		{"a page of 100 MB", func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, Refused, 1},
		{"no list", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }, ErrorPage, 1},
		{"a link to nowhere", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", `</v2/team/app/tags/list>; rel="next"`)
			fmt.Fprint(w, `{"tags":["a"]}`)
		}, Unexpected, 1},
		{"not found", http.NotFound, NotFound, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			reg, requests := serve(t, test.handler)
			tags, _, err := client(t, reg, Config{}).Tags(t.Context(), "team/app", "", 0)
			wantKind(t, err, test.want)
			if n := len(requests.all()); tags != nil || n > test.most {
				t.Errorf("%d tags after %d requests", len(tags), n)
			}
		})
	}
	reg, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"name":"team/app","tags":null}`) })
	if tags, _, err := client(t, reg, Config{}).Tags(t.Context(), "team/app", "", 0); err != nil || len(tags) != 0 {
		t.Errorf("got %v, %v", tags, err)
	}
}

func TestReferrers(t *testing.T) {
	subject := oci.SHA256.FromBytes([]byte("subject"))
	descriptor := func(kind string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1,"artifactType":%q}`, oci.MediaTypeManifest, oci.SHA256.FromBytes([]byte(kind)), kind)
	}
	index := func(kinds ...string) []byte {
		var list []string
		for _, kind := range kinds {
			list = append(list, descriptor(kind))
		}
		return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, oci.MediaTypeIndex, strings.Join(list, ","))
	}
	send := func(raw []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", oci.MediaTypeIndex)
			w.Write(raw)
		}
	}
	page := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>")
	}
	broken := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
	for _, test := range []struct {
		name     string
		api, tag http.HandlerFunc
		kind     string
		want     []string
		fails    Kind
	}{
		{name: "by the API", api: send(index("a/sig", "a/sbom")), tag: broken, want: []string{"a/sig", "a/sbom"}},
		{name: "filtered here", api: send(index("a/sig", "a/sbom")), tag: broken, kind: "a/sig", want: []string{"a/sig"}},
		{name: "by tag", api: http.NotFound, tag: send(index("a/sig", "a/sbom")), want: []string{"a/sig", "a/sbom"}},
		{name: "by tag, filtered", api: http.NotFound, tag: send(index("a/sig", "a/sbom")), kind: "a/sbom", want: []string{"a/sbom"}},
		{name: "a page instead of the API", api: page, tag: send(index("a/sig")), want: []string{"a/sig"}},
		{name: "none", api: send(index()), tag: broken},
		{name: "neither API nor tag", api: http.NotFound, tag: http.NotFound},
		{name: "broken", api: broken, tag: send(index("a/sig")), fails: Broken},
		{name: "broken behind", api: http.NotFound, tag: broken, fails: Broken},
		{name: "an image under the tag", api: http.NotFound, tag: func(w http.ResponseWriter, r *http.Request) { sendManifest(w, r, manifestOf(nil)) }, fails: ErrorPage},
		{name: "in pages", api: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("page") == "" {
				w.Header().Set("Link", `<?page=2>; rel="next"`)
				send(index("a/sig"))(w, r)
				return
			}
			send(index("a/sbom"))(w, r)
		}, tag: broken, want: []string{"a/sig", "a/sbom"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			reg, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/v2/team/app/referrers/" + subject.String():
					test.api(w, r)
				case "/v2/team/app/manifests/" + subject.ReferrersTag():
					test.tag(w, r)
				default:
					http.NotFound(w, r)
				}
			})
			got, err := client(t, reg, Config{}).Referrers(t.Context(), "team/app", subject, test.kind)
			if test.fails != "" {
				wantKind(t, err, test.fails)
				return
			}
			var kinds []string
			for _, d := range got {
				kinds = append(kinds, d.ArtifactType)
			}
			if err != nil || got == nil || !slices.Equal(kinds, test.want) {
				t.Errorf("got %v, %v, want %v", kinds, err, test.want)
			}
			if asked := requests.all()[0].URL.Query().Get("artifactType"); asked != test.kind {
				t.Errorf("asked for type %q", asked)
			}
		})
	}
}
