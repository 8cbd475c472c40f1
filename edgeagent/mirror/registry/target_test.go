package registry

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

const sum = "6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b"

func declared(name string) bool { return name == "docker.io" || name == "reg.example:5000" }

func TestTarget(t *testing.T) {
	for path, want := range map[string]string{
		"/v2/": "ping /",
		"/v2":  "ping /",
		"/v2/library/nginx/manifests/1.27?ns=docker.io":                      "manifest docker.io/library/nginx:1.27",
		"/v2/a/manifests/sha256:" + sum + "?ns=reg.example:5000":             "manifest reg.example:5000/a@sha256:" + sum,
		"/v2/a/manifests/sha256%3A" + sum + "?ns=reg.example%3A5000":         "manifest reg.example:5000/a@sha256:" + sum,
		"/v2/a/b/blobs/sha256:" + sum + "?ns=docker.io":                      "blob docker.io/a/b@sha256:" + sum,
		"/v2/a/b/referrers/sha256:" + sum + "?ns=docker.io&artifactType=x/y": "referrers docker.io/a/b@sha256:" + sum,
		"/v2/a/b/tags/list?ns=docker.io&n=3":                                 "tags docker.io/a/b",
		"/v2/docker.io/library/nginx/manifests/1.27":                         "manifest docker.io/library/nginx:1.27",
		"/v2/docker.io/a/tags/list":                                          "tags docker.io/a",
		"/v2/x/manifests/y/manifests/latest?ns=docker.io":                    "manifest docker.io/x/manifests/y:latest",
		"/v2/manifests/blobs/tags/list?ns=docker.io":                         "tags docker.io/manifests/blobs",
		"/v2/a/tags/manifests/list?ns=docker.io":                             "manifest docker.io/a/tags:list",
		// What is none.
		"/":                                                                  "404 UNSUPPORTED",
		"/v1/":                                                               "404 UNSUPPORTED",
		"/v2/_catalog":                                                       "404 UNSUPPORTED",
		"/v2/manifests/latest?ns=docker.io":                                  "404 UNSUPPORTED",
		"/v2//manifests/latest?ns=docker.io":                                 "400 NAME_INVALID",
		"/v2/a/manifests/?ns=docker.io":                                      "400 MANIFEST_INVALID",
		"/v2/a/manifests/latest":                                             "400 NAME_INVALID",
		"/v2/evil.example/a/manifests/latest":                                "404 NAME_UNKNOWN",
		"/v2/a/manifests/latest?ns=evil.example":                             "404 NAME_UNKNOWN",
		"/v2/a/manifests/latest?ns=DOCKER.IO":                                "404 NAME_UNKNOWN",
		"/v2/a/manifests/latest?ns=":                                         "400 NAME_INVALID",
		"/v2/a/manifests/latest?ns=a/b":                                      "400 NAME_INVALID",
		"/v2/a/manifests/latest?ns=user@docker.io":                           "400 NAME_INVALID",
		"/v2/a/manifests/latest?ns=docker.io&ns=evil":                        "400 NAME_INVALID",
		"/v2/a/manifests/latest?ns=docker.io;x":                              "400 NAME_INVALID",
		"/v2/a/manifests/latest?ns=docker.io%00":                             "400 NAME_INVALID",
		"/v2/../../etc/passwd/manifests/latest?ns=docker.io":                 "400 NAME_INVALID",
		"/v2/a/../b/manifests/latest?ns=docker.io":                           "400 NAME_INVALID",
		"/v2/a/%2e%2e/b/manifests/latest?ns=docker.io":                       "400 NAME_INVALID",
		"/v2/a//b/manifests/latest?ns=docker.io":                             "400 NAME_INVALID",
		"/v2/a%00b/manifests/latest?ns=docker.io":                            "400 NAME_INVALID",
		"/v2/A/manifests/latest?ns=docker.io":                                "400 NAME_INVALID",
		"/v2/" + strings.Repeat("a", 300) + "/manifests/latest?ns=docker.io": "400 NAME_INVALID",
		"/v2/a/manifests/..?ns=docker.io":                                    "400 MANIFEST_INVALID",
		"/v2/a/manifests/%2e%2e%2f?ns=docker.io":                             "404 UNSUPPORTED",
		"/v2/a/manifests/" + strings.Repeat("t", 129) + "?ns=docker.io":      "400 MANIFEST_INVALID",
		"/v2/a/manifests/md5:" + sum[:32] + "?ns=docker.io":                  "400 DIGEST_INVALID",
		"/v2/a/blobs/latest?ns=docker.io":                                    "400 DIGEST_INVALID",
		"/v2/a/blobs/sha256:" + sum[1:] + "?ns=docker.io":                    "400 DIGEST_INVALID",
		"/v2/a/blobs/sha256:" + strings.ToUpper(sum) + "?ns=docker.io":       "400 DIGEST_INVALID",
		"/v2/a/blobs/sha256:..%2f..%2f" + sum + "?ns=docker.io":              "404 UNSUPPORTED",
		"/v2/a/blobs/uploads/?ns=docker.io":                                  "404 UNSUPPORTED",
		"/v2/a/referrers/latest?ns=docker.io":                                "400 DIGEST_INVALID",
	} {
		u, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		parsed, err := parseTarget(u, declared)
		if r, ok := errors.AsType[*refusal](err); ok {
			got = strings.Join([]string{map[int]string{http.StatusBadRequest: "400", http.StatusNotFound: "404"}[r.status], r.code}, " ")
		} else {
			got = string(parsed.kind) + " " + parsed.ref.String()
		}
		if got != want {
			t.Errorf("%s: %q, want %q (%v)", path, got, want, err)
		}
	}
}

// FuzzTarget: whatever the address, what comes out passes the grammar, and leads to itself again.
func FuzzTarget(f *testing.F) {
	f.Add("/v2/library/nginx/manifests/1.27", "ns=docker.io")
	f.Add("/v2/docker.io/a/blobs/sha256:"+sum, "")
	f.Add("/v2/a/../b/referrers/sha256:"+sum, "ns=docker.io&ns=")
	f.Add("/v2/a/manifests/b/tags/list", "ns=docker.io&n=1")
	f.Fuzz(func(t *testing.T, path, query string) {
		parsed, err := parseTarget(&url.URL{Path: path, RawQuery: query}, func(string) bool { return true })
		if err != nil || parsed.kind == Ping {
			return
		}
		if err := errors.Join(oci.CheckRegistry(parsed.ref.Registry), oci.CheckRepository(parsed.ref.Repository)); err != nil {
			t.Fatal(err)
		}
		endpoint := map[Kind]string{Manifest: "/manifests/", Blob: "/blobs/", Referrers: "/referrers/", Tags: "/tags/list"}[parsed.kind]
		again, err := parseTarget(&url.URL{Path: "/v2/" + parsed.ref.Repository + endpoint + parsed.ref.Target(), RawQuery: url.Values{"ns": {parsed.ref.Registry}}.Encode()}, func(string) bool { return true })
		if err != nil || again != parsed {
			t.Fatalf("%+v, then %+v, %v", parsed, again, err)
		}
	})
}

func TestRange(t *testing.T) {
	for header, want := range map[string]part{
		"bytes=0-":                     {from: 0, length: 100},
		"bytes=10-19":                  {from: 10, length: 10},
		"bytes=99-":                    {from: 99, length: 1},
		"bytes=90-1000":                {from: 90, length: 10},
		"bytes=-10":                    {from: 90, length: 10},
		"bytes=-1000":                  {from: 0, length: 100},
		"Bytes = 5-5":                  {from: 5, length: 1},
		"bytes=0-1,5-6":                {length: 100, whole: true},
		"pages=1-2":                    {length: 100, whole: true},
		"bytes":                        {length: 100, whole: true},
		"bytes=100-":                   {},
		"bytes=500-0":                  {},
		"bytes=-0":                     {},
		"bytes=-":                      {},
		"bytes=":                       {},
		"bytes=a-b":                    {},
		"bytes=+1-2":                   {},
		"bytes=1--2":                   {},
		"bytes=0x1-2":                  {},
		"bytes=-1-2":                   {},
		"bytes=1-99999999999999999999": {},
		"bytes=9223372036854775808-":   {},
	} {
		got, err := parseRange(header, 100)
		if (err != nil) != (want == part{}) || got != want {
			t.Errorf("%q: %+v, %v, want %+v", header, got, err, want)
		}
	}
	for _, header := range []string{"bytes=0-", "bytes=-5", "bytes=0-0"} {
		if _, err := parseRange(header, 0); err == nil {
			t.Errorf("%q is in nothing", header)
		}
	}
}

// FuzzRange: what comes out lies within the blob.
func FuzzRange(f *testing.F) {
	for _, header := range []string{"bytes=0-5", "bytes=-5", "bytes=5-", "bytes=1-2,3-4", "x=1-2"} {
		f.Add(header, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		p, err := parseRange(header, size)
		if err != nil {
			return
		}
		if p.whole && (p.from != 0 || p.length != size) || !p.whole && p.length < 1 || p.from < 0 || p.length < 0 || p.from > size-p.length {
			t.Fatalf("%q of %d: %+v", header, size, p)
		}
	})
}
