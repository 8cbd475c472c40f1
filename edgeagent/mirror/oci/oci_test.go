package oci_test

import (
	"encoding/json"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

const (
	sum256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	sum512 = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
)

func TestDigest(t *testing.T) {
	for _, good := range []string{"sha256:" + sum256, "sha512:" + sum512} {
		d, err := oci.ParseDigest(good)
		if err != nil || d.String() != good || d.IsZero() {
			t.Errorf("%s: got %v, %v", good, d, err)
		}
		if again := d.Algorithm().FromBytes(nil); again != d {
			t.Errorf("the hash of nothing is %s, want %s", again, good)
		}
	}
	for _, bad := range []string{
		"", ":", "sha256", "sha256:", "sha256:" + sum256[1:], "sha256:" + sum256 + "0", "sha256:" + strings.ToUpper(sum256), "SHA256:" + sum256,
		"sha512:" + sum256, "sha256:" + sum512, "md5:d41d8cd98f00b204e9800998ecf8427e", "sha384:" + sum256, "sha256-" + sum256,
		"sha256:../../" + sum256[6:], "sha256:" + sum256[1:] + "\n", " sha256:" + sum256, "sha256:" + sum256[:63] + "g", "sha256:" + sum256 + "\x00",
		"sha256+b64:" + sum256, strings.Repeat("x", 1<<20),
	} {
		d, err := oci.ParseDigest(bad)
		if err == nil || !d.IsZero() {
			t.Errorf("%.80q: was let through", bad)
		} else if len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%.80q: the error is long or has control characters: %.400q", bad, err)
		}
	}
}

func TestDigestInJSON(t *testing.T) {
	var d oci.Descriptor
	if err := json.Unmarshal([]byte(`{"digest":"sha256:`+sum256+`","size":0}`), &d); err != nil || d.Digest.Hex() != sum256 {
		t.Errorf("got %v, %v", d, err)
	}
	if out, err := json.Marshal(d.Digest); err != nil || string(out) != `"sha256:`+sum256+`"` {
		t.Errorf("got %s, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"digest":"../x"}`), &d); err == nil {
		t.Error("a bad digest was let through")
	}
	var zero oci.Digest
	if zero.Algorithm() != "" || zero.Hex() != "" || zero.String() != "" {
		t.Error("the zero digest is not empty")
	}
}

func TestReferrersTag(t *testing.T) {
	for in, want := range map[string]string{"sha256:" + sum256: "sha256-" + sum256, "sha512:" + sum512: "sha512-" + sum512[:64]} {
		d, err := oci.ParseDigest(in)
		if err != nil || d.ReferrersTag() != want || oci.CheckTag(want) != nil {
			t.Errorf("%s: got %s, want %s", in, d.ReferrersTag(), want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, test := range []struct {
		check func(string) error
		good  []string
		bad   []string
	}{
		{oci.CheckRepository,
			[]string{"a", "library/nginx", "a/b/c/d", "a.b/c_d/e__f/g-h/i---j", "0/1", strings.Repeat("a", 255)},
			[]string{"", "/", "a/", "/a", "a//b", ".", "..", "../a", "a/../b", "a/./b", ".a", "a.", "a..b", "a___b", "_a", "a_", "-a", "a-", "A", "a/B",
				"a b", "a\x00", "a\n", "a%2fb", "a\\b", "é", "a:b", "a@b", strings.Repeat("a", 256), strings.Repeat("a/", 200)}},
		{oci.CheckTag,
			[]string{"latest", "v1.2.3", "_", "A", "1", "a..b", "sha256-abc.sig", strings.Repeat("a", 128)},
			[]string{"", ".", "..", ".a", "-a", "a/b", "a:b", "a b", "a\n", "é", strings.Repeat("a", 129)}},
		{oci.CheckRegistry,
			[]string{"docker.io", "localhost", "localhost:5000", "10.0.0.1:5000", "[fd00::1]", "[fd00::1]:5000", "Registry.Example", "a-b.c"},
			[]string{"", ":", ":5000", "a:", "a:b", "a:123456", "a/b", "a..b", ".a", "a.", "-a", "a-", "fd00::1", "[", "[]", "[x]:1", "[fd00::1]x", "a@b", "user:pass@b",
				"a\n", strings.Repeat("a", 64), strings.Repeat("a.", 150) + "a"}},
	} {
		for _, s := range test.good {
			if err := test.check(s); err != nil {
				t.Errorf("%q: %v", s, err)
			}
		}
		for _, s := range test.bad {
			if test.check(s) == nil {
				t.Errorf("%.80q: was let through", s)
			}
		}
	}
}

func TestReference(t *testing.T) {
	digest := "sha256:" + sum256
	for in, want := range map[string]string{
		"nginx":                                "docker.io/library/nginx:latest",
		"nginx:1.27":                           "docker.io/library/nginx:1.27",
		"grafana/loki@" + digest:               "docker.io/grafana/loki@" + digest,
		"index.docker.io/nginx":                "docker.io/library/nginx:latest",
		"docker.io/nginx:1":                    "docker.io/library/nginx:1",
		"localhost/a":                          "localhost/a:latest",
		"localhost:5000/a/b:c@" + digest:       "localhost:5000/a/b:c@" + digest,
		"registry.k8s.io/pause:3.10":           "registry.k8s.io/pause:3.10",
		"[fd00::1]:5000/a:b":                   "[fd00::1]:5000/a:b",
		"Host/a":                               "Host/a:latest",
		"a.b/" + strings.Repeat("c", 255):      "a.b/" + strings.Repeat("c", 255) + ":latest",
		"registry.example/deep/er/name:v1_2.3": "registry.example/deep/er/name:v1_2.3",
	} {
		got, err := oci.ParseReference(in)
		if err != nil || got.String() != want {
			t.Errorf("%s: got %s, %v; want %s", in, got, err, want)
		}
		again, err := oci.ParseReference(want)
		if err != nil || again != got {
			t.Errorf("%s read again: got %+v, %v; want %+v", want, again, err, got)
		}
	}
	for _, bad := range []string{"", ":", "@", "a@", "a:", "a:b:c", "a@sha256:1", "/a", "a/", "nginx:-", "NGINX", "https://a.b/c", "a.b/../c", "a b", "a@" + digest + "@" + digest,
		"user:pass@a.b/c", "a.b:x/c", "docker.io/"} {
		if got, err := oci.ParseReference(bad); err == nil {
			t.Errorf("%q: was let through as %s", bad, got)
		}
	}
	if r, _ := oci.ParseReference("a:b@" + digest); r.Target() != digest {
		t.Errorf("got %s: the digest decides", r.Target())
	}
	if r, _ := oci.ParseReference("a:b"); r.Target() != "b" {
		t.Errorf("got %s, want the tag", r.Target())
	}
}

// The grammar as the distribution specification writes it.
var (
	specRepository = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	specTag        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	specDigest     = regexp.MustCompile(`^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$`)
)

func FuzzNames(f *testing.F) {
	for _, s := range []string{"a/b", "a__b/c--d", "a___b", "v1.2", ".a", "sha256:" + sum256, "sha512:" + sum512, "a/b\n", "x.y:1/z:t@sha256:" + sum256} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := oci.CheckRepository(s) == nil, specRepository.MatchString(s) && len(s) <= oci.MaxRepository; got != want {
			t.Errorf("repository %q: got %v, the specification says %v", s, got, want)
		}
		if got, want := oci.CheckTag(s) == nil, specTag.MatchString(s); got != want {
			t.Errorf("tag %q: got %v, the specification says %v", s, got, want)
		}
		d, err := oci.ParseDigest(s)
		if want := specDigest.MatchString(s); (err == nil) != want {
			t.Errorf("digest %q: got %v, the specification says %v", s, err, want)
		}
		if err == nil && path.Clean(d.Hex()) != d.Hex() {
			t.Errorf("digest %q: its hex is no plain file name", s)
		}
		if r, err := oci.ParseReference(s); err == nil {
			if again, err := oci.ParseReference(r.String()); err != nil || again != r {
				t.Errorf("%q: %+v became %+v, %v", s, r, again, err)
			}
			if path.Clean("/"+r.Repository) != "/"+r.Repository {
				t.Errorf("%q: the repository %q is a path trick", s, r.Repository)
			}
		}
	})
}
