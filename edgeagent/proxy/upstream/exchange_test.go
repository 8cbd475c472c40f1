package upstream

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// TestExchange: what is read, or left to net/http, is what net/http reads.
func TestExchange(t *testing.T) {
	long := strings.Repeat("x", 20<<10)
	for _, test := range []struct {
		name, answer string
		usual        bool
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nhello", true},
		{"no body", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", true},
		{"chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-a:  b \r\nX-A: c\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n", true},
		{"trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: b\r\nX-B: c\r\n\r\n", true},
		{"short", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", true},
		{"broken chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", true},
		{"no last line", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", true},
		{"long body", "HTTP/1.1 200 OK\r\nContent-Length: 20480\r\n\r\n" + long, true},
		{"until the end", "HTTP/1.1 200 OK\r\n\r\nhello", false},
		{"close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", false},
		{"provisional", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false},
		{"nothing", "HTTP/1.1 304 Not Modified\r\nEtag: x\r\n\r\n", false},
		{"both", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello", false},
		{"signed length", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", false},
		{"other encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", false},
		{"folded", "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 5\r\n\r\nhello", false},
		{"no colon", "HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 5\r\n\r\nhello", false},
		{"old", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", false},
		{"long head", "HTTP/1.1 200 OK\r\nX-A: " + long + "\r\nContent-Length: 5\r\n\r\nhello", false},
		{"not HTTP", "SSH-2.0-x\r\n\r\n", false},
		{"empty", "", true},
		{"half a head", "HTTP/1.1 200 OK\r\nX-A: b", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := &http.Request{Method: "GET", URL: &url.URL{Path: "/"}}
			want := summary(func() (*http.Response, io.Reader, error) {
				r := bufio.NewReader(strings.NewReader(test.answer))
				for {
					resp, err := http.ReadResponse(r, req)
					if err != nil {
						return nil, nil, err
					}
					if resp.StatusCode >= 200 {
						return resp, resp.Body, nil
					}
				}
			})
			for _, in := range []io.Reader{strings.NewReader(test.answer), iotest.OneByteReader(strings.NewReader(test.answer))} {
				c := &quickConn{r: bufio.NewReaderSize(in, quickBuffer)}
				if got := summary(func() (*http.Response, io.Reader, error) { return c.receive(req) }); got != want {
					t.Errorf("got %.300s, want %.300s", got, want)
				}
			}
			resp, _, err := readAnswer(bufio.NewReaderSize(strings.NewReader(test.answer), quickBuffer), req)
			if usual := resp != nil || err != nil; usual != test.usual {
				t.Errorf("left to net/http: %v", !usual)
			}
		})
	}
}

func summary(receive func() (*http.Response, io.Reader, error)) string {
	resp, body, err := receive()
	if err != nil {
		return "no answer"
	}
	b, err := io.ReadAll(body)
	return fmt.Sprint(resp.Status, resp.ContentLength, resp.Header, string(b), err != nil)
}

// TestRequestLine: what is written is what net/http writes, in another order, and nothing that it would not.
func TestRequestLine(t *testing.T) {
	u := &url.URL{Scheme: "https", Host: "api:6443", Path: "/a b", RawPath: "/a%20b", RawQuery: "c=d"}
	for _, test := range []struct {
		name   string
		change func(r *http.Request)
		usual  bool
	}{
		{"usual", func(r *http.Request) {}, true},
		{"no agent", func(r *http.Request) { r.Header["User-Agent"] = []string{""} }, true},
		{"two values", func(r *http.Request) { r.Header["X-B"] = []string{"1", "2"} }, true},
		{"line end in a value", func(r *http.Request) { r.Header["X-B"] = []string{"1\r\nX-Remote-User: admin"} }, false},
		{"line end in a name", func(r *http.Request) { r.Header["X-B: 1\r\nX"] = []string{"1"} }, false},
		{"line end in the query", func(r *http.Request) { r.URL.RawQuery = "a HTTP/1.1\r\nX: y" }, false},
		{"length", func(r *http.Request) { r.Header["Content-Length"] = []string{"5"} }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			clone := *u
			req := &http.Request{Method: "GET", URL: &clone, Header: http.Header{"X-A": {"b"}, "User-Agent": {"me"}}}
			test.change(req)
			got, ok := appendRequest(nil, req)
			if ok != test.usual {
				t.Fatalf("left to net/http: %v", !ok)
			}
			var want strings.Builder
			if err := req.Write(&want); err == nil && ok && !reflect.DeepEqual(lines(string(got)), lines(want.String())) {
				t.Errorf("got %q, want %q", got, want.String())
			}
		})
	}
}

func lines(s string) map[string]int {
	out := map[string]int{}
	for line := range strings.SplitSeq(s, "\r\n") {
		out[line]++
	}
	return out
}
