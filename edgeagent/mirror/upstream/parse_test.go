package upstream

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseChallenges(t *testing.T) {
	for header, want := range map[string][]challenge{
		``:                  nil,
		`Bearer`:            {{scheme: "bearer"}},
		`Basic realm="a b"`: {{scheme: "basic", realm: "a b"}},
		`BEARER Realm=x`:    {{scheme: "bearer", realm: "x"}},
		`Bearer realm = "x" , scope="repository:a:pull,push"`: {{scheme: "bearer", realm: "x", scope: "repository:a:pull,push"}},
		`Bearer realm="https://a/t",service="s",scope="c"`:    {{scheme: "bearer", realm: "https://a/t", service: "s", scope: "c"}},
		`Bearer realm="a\"b\\c",service=s, Basic realm="d"`:   {{scheme: "bearer", realm: `a"b\c`, service: "s"}, {scheme: "basic", realm: "d"}},
		`Negotiate, Basic realm="d"`:                          {{scheme: "negotiate"}, {scheme: "basic", realm: "d"}},
		`Bearer realm="never ends`:                            {{scheme: "bearer"}},
		`Bearer realm="x",error="invalid_token", , service=s`: {{scheme: "bearer", realm: "x", service: "s"}},
		`="x"`:           nil,
		`realm="x"`:      nil,
		`Bearer realm=,`: {{scheme: "bearer"}},
	} {
		if got := parseChallenges(header); !slices.Equal(got, want) {
			t.Errorf("%s: got %+v, want %+v", header, got, want)
		}
	}
	for _, test := range []struct {
		headers []string
		want    *challenge
	}{
		{nil, nil},
		{[]string{"Negotiate"}, nil},
		{[]string{"Bearer"}, nil},
		{[]string{`Basic realm="a"`, `Bearer realm="b"`}, &challenge{scheme: "bearer", realm: "b"}},
		{[]string{`Basic realm="a"`, `Basic realm="b"`}, &challenge{scheme: "basic", realm: "a"}},
	} {
		got := pick(test.headers)
		if (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
			t.Errorf("%q: got %+v, want %+v", test.headers, got, test.want)
		}
	}
}

func TestNextPage(t *testing.T) {
	for header, want := range map[string]string{
		``:                              "-",
		`</x?a=1>`:                      "-",
		`</x?a=1>; rel="prev"`:          "-",
		`</x?a=1>; rel="next"`:          "a=1",
		`</x?a=1>;rel=next`:             "a=1",
		`</x?a=1>; title=y; REL="Next"`: "a=1",
		`</x?a=1>; rel="prev", </x?b=2>; rel="next"`: "b=2",
		`</x?a=1&b=%2F>; rel="next"`:                 "a=1&b=%2F",
		`<https://other/x?a=1#f>; rel="next"`:        "a=1",
		`</x>; rel="next"`:                           "",
		`<%zz>; rel="next"`:                          "",
		`</x?a=1; rel="next"`:                        "-",
	} {
		got, more := nextPage([]string{header})
		if !more {
			got = "-"
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", header, got, want)
		}
	}
}

func TestNew(t *testing.T) {
	for _, cfg := range []Config{{}, {Name: "a b"}, {Name: "a", Host: "https://a"}, {Name: "a", Hosts: []string{"a/b"}}, {Name: "a", Host: "a:port"}} {
		if cfg.Log = discardLog(); cfg.Name == "" {
			cfg.Name = "no name"
		}
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
	if _, err := New(Config{Name: "a"}); err == nil {
		t.Error("a client without a log was made")
	}
	for name, want := range map[string]string{"docker.io": "registry-1.docker.io:443 auth.docker.io:443", "r.example": "r.example:443", "R.example:5000": "r.example:5000", "[fd00::1]": "[fd00::1]:443", "[fd00::1]:5000": "[fd00::1]:5000"} {
		r, err := New(Config{Name: name, Log: discardLog()})
		if err != nil {
			t.Fatal(err)
		}
		for h := range strings.FieldsSeq(want) {
			if !r.declared[h] || r.host != strings.Fields(want)[0] {
				t.Errorf("%s: declared %v, host %s, want %s", name, r.declared, r.host, want)
			}
		}
	}
}

func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://a/t",service="s",scope="c", Basic realm="x"`)
	f.Add(`Bearer realm="a\"b`)
	f.Add(`Negotiate abc==, Bearer realm=x`)
	f.Fuzz(func(t *testing.T, header string) {
		for _, c := range parseChallenges(header) {
			if c.scheme == "" || c.scheme != strings.ToLower(c.scheme) || len(c.realm)+len(c.service)+len(c.scope) > len(header) {
				t.Errorf("%q: %+v", header, c)
			}
		}
	})
}

func FuzzLink(f *testing.F) {
	f.Add(`</v2/a/tags/list?n=1&last=b>; rel="next"`)
	f.Add(`<a>; rel=prev, <b?c>; rel=next`)
	f.Fuzz(func(t *testing.T, header string) {
		rawQuery, _ := nextPage([]string{header})
		if _, err := url.ParseQuery(rawQuery); err != nil {
			t.Errorf("%q: the query %q: %v", header, rawQuery, err)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 5-9/10", int64(5), int64(5))
	f.Add("bytes 5-9/*", int64(5), int64(-1))
	f.Add("bytes */10", int64(0), int64(-1))
	f.Fuzz(func(t *testing.T, header string, from, length int64) {
		total, err := contentRange(header, from, length)
		if err == nil && (from < 0 || total >= 0 && (total <= from || length >= 0 && from+length > total)) {
			t.Errorf("%q from %d, %d bytes: total %d", header, from, length, total)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120", "")
	f.Add("Mon, 02 Jan 2006 15:05:05 GMT", "Mon, 02 Jan 2006 15:04:05 GMT")
	f.Fuzz(func(t *testing.T, after, date string) {
		if d := retryAfter(http.Header{"Retry-After": {after}, "Date": {date}}); d < 0 || d > 24*time.Hour {
			t.Errorf("%q at %q: %v", after, date, d)
		}
	})
}
