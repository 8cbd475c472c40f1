package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream/upstreamtest"
)

func settings(never ...string) proxy.Settings { return proxy.Settings{NeverCache: never} }

// seen answers with what came of the request.
var seen = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Seen-User", upstreamtest.User(r))
	fmt.Fprintf(w, "%s %s %q\n", r.Method, r.RequestURI, body)
	r.Header.Write(w)
})

func TestWhoCalls(t *testing.T) {
	s := start(t, seen, nil)
	foreign := upstreamtest.NewAuthority(t).Issue(nodeName, "system:nodes")
	for _, test := range []struct {
		name    string
		client  *http.Client
		headers []string
		code    int
		user    string
		message string
	}{
		{"the node", s.client(true), nil, 200, nodeName, ""},
		{"a pod", s.client(false), []string{"Authorization", "Bearer " + pod("web")}, 200, "Bearer " + pod("web"), ""},
		{"an opaque token", s.client(false), []string{"Authorization", "Bearer x"}, 200, "Bearer x", ""},
		{"nobody", s.client(false), nil, 401, "", "no credential"},
		{"nobody who says kubelet", s.client(false), []string{"User-Agent", "kubelet/v1.37.2"}, 401, "", "no credential"},
		{"basic", s.client(false), []string{"Authorization", "Basic bm9kZTpub2Rl"}, 401, "", "only Bearer"},
		{"two tokens", s.client(false), []string{"Authorization", "Bearer a", "Authorization", "Bearer b"}, 401, "", "send one"},
		{"the node and a token", s.client(true), []string{"Authorization", "Bearer x"}, 401, "", "send one of them"},
		{"a foreign certificate", s.client(false, func(t *http.Transport) { t.TLSClientConfig.Certificates = []tls.Certificate{*foreign} }), nil, 401, "", "was not made by this node"},
		{"the node as admin", s.client(true), []string{"Impersonate-User", "admin"}, 403, "", "does not impersonate"},
		{"the node with uid", s.client(true), []string{"Impersonate-Uid", "1"}, 403, "", "does not impersonate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, body := s.do(test.client, "GET", "/api/v1/nodes", "", test.headers...)
			if resp.StatusCode != test.code || resp.Header.Get("X-Seen-User") != test.user || !strings.Contains(body, test.message) {
				t.Errorf("got %s, user %q, %s", resp.Status, resp.Header.Get("X-Seen-User"), body)
			}
			if test.code != 200 && !strings.Contains(body, `"kind":"Status"`) {
				t.Errorf("the refusal is no Status: %s", body)
			}
		})
	}
}

func TestPassesAsItIs(t *testing.T) {
	s := start(t, seen, nil)
	for _, version := range []string{"HTTP/2", "HTTP/1.1"} {
		t.Run(version, func(t *testing.T) {
			c := s.client(true)
			if version == "HTTP/1.1" {
				c = s.client(true, http1)
			}
			for _, path := range []string{"/api/v1/x?a=b&c=%2F", "/api/v1/namespaces/a%2Fb/pods", "/api/v1//double", "/api/v1/a/../b", "/apis/x?labelSelector=a%3Db%2Cc", "/%00"} {
				resp, body := s.do(c, "PATCH", path, "payload", "Content-Type", "application/strategic-merge-patch+json", "X-Custom", "1", "Accept-Encoding", "gzip")
				want := fmt.Sprintf("PATCH %s %q\n", path, "payload")
				if resp.StatusCode != 200 || !strings.HasPrefix(body, want) {
					t.Errorf("got %s %.100s, want %s", resp.Status, body, want)
				}
				for _, line := range []string{"X-Custom: 1", "Content-Type: application/strategic-merge-patch+json", "Accept-Encoding: gzip", "User-Agent: Go-http-client"} {
					if !strings.Contains(body, line) {
						t.Errorf("%s was lost: %s", line, body)
					}
				}
			}
		})
	}
}

// TestSmuggling sends what one server may understand otherwise than the next.
func TestSmuggling(t *testing.T) {
	var mu sync.Mutex
	var reached []string
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if upstreamtest.User(r) != nodeName { // the proxy asks too
			mu.Lock()
			reached = append(reached, r.Method+" "+r.RequestURI)
			mu.Unlock()
		}
		seen(w, r)
	}), nil)
	const host = "\r\nHost: x\r\n"
	auth := "Authorization: Bearer " + pod("web") + "\r\n"
	for _, test := range []struct {
		name, request string
		code          string // "" if the connection may just end
		hidden        string // must not reach upstream
	}{
		{"two lengths", "POST /a HTTP/1.1" + host + auth + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "400", "hello"},
		{"length and chunks", "POST /a HTTP/1.1" + host + auth + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n", "", "smuggled"},
		{"odd transfer encoding", "POST /a HTTP/1.1" + host + auth + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501", "xchunked"},
		{"folded header", "GET /a HTTP/1.1" + host + auth + "X-A: b\r\n Impersonate-User: admin\r\nConnection: close\r\n\r\n", "", "\nImpersonate-User"},
		{"space before colon", "GET /a HTTP/1.1" + host + auth + "Impersonate-User : admin\r\n\r\n", "400", "admin"},
		{"naming the credential away", "GET /a HTTP/1.1" + host + auth + "Connection: authorization, close\r\n\r\n", "200", "Connection"},
		{"naming a header away", "GET /a HTTP/1.1" + host + auth + "X-Gone: 1\r\nConnection: x-gone, close\r\n\r\n", "200", "X-Gone"},
		{"aggregator's headers", "GET /a HTTP/1.1" + host + auth + "X-Remote-User: admin\r\nX-Remote-Group: system:masters\r\nConnection: close\r\n\r\n", "200", "X-Remote"},
		{"absolute target", "GET https://elsewhere/a HTTP/1.1" + host + auth + "Connection: close\r\n\r\n", "200", "elsewhere"},
		{"connect", "CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere:443\r\n" + auth + "Connection: close\r\n\r\n", "405", "CONNECT elsewhere:443 \""},
		{"trace", "TRACE /a HTTP/1.1" + host + auth + "Connection: close\r\n\r\n", "405", "TRACE /a"},
		{"h2c", "GET /a HTTP/1.1" + host + auth + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n", "200", "Http2-Settings"},
		{"long header", "GET /a HTTP/1.1" + host + auth + "X-Long: " + strings.Repeat("x", 200<<10) + "\r\n\r\n", "431", "xxx"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), &tls.Config{RootCAs: s.ca.Pool, NextProtos: []string{"http/1.1"}})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(30 * time.Second))
			mu.Lock()
			reached = nil
			mu.Unlock()
			go io.WriteString(conn, test.request)
			var answer strings.Builder
			buf := make([]byte, 32<<10)
			for !strings.Contains(answer.String(), "User-Agent: ") && err == nil {
				var n int
				n, err = conn.Read(buf)
				answer.Write(buf[:n])
				if strings.Contains(answer.String(), "\r\n\r\n") && !strings.HasPrefix(answer.String(), "HTTP/1.1 200") {
					break
				}
				if strings.HasSuffix(answer.String(), "\n\r\n0\r\n\r\n") || strings.Contains(answer.String(), "Authorization: Bearer") {
					break
				}
			}
			got := answer.String()
			if test.code != "" && !strings.HasPrefix(got, "HTTP/1.1 "+test.code) {
				t.Errorf("got %.300s, want %s", got, test.code)
			}
			if _, body, _ := strings.Cut(got, "\r\n\r\n"); strings.Contains(body, test.hidden) && strings.HasPrefix(got, "HTTP/1.1 200") {
				t.Errorf("%q reached upstream: %s", test.hidden, body)
			}
			conn.Close() // then nothing more comes of it
			if _, body := s.do(s.client(true), "GET", "/last", ""); !strings.HasPrefix(body, "GET /last") {
				t.Errorf("a request afterwards got %s", body)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(reached) > 1 || len(reached) == 1 && !strings.HasSuffix(reached[0], " /a") {
				t.Errorf("%q reached upstream, want /a or nothing", reached)
			}
		})
	}
}

// TestOffline: once the link is gone package offline answers, for who is who it says.
func TestOffline(t *testing.T) {
	s := start(t, seen, nil)
	s.auth.forged = func(token string) bool { return token == pod("eve") }
	c := s.client(true)
	s.do(c, "GET", "/api/v1/nodes", "")
	s.api.Refuse()
	eventually(t, 30*time.Second, "offline", func() bool { return s.link.State() == upstream.Offline })
	for _, test := range []struct {
		name    string
		client  *http.Client
		headers []string
		code    int
		message string
	}{
		{"the node", c, nil, 200, "offline list /api/v1/nodes for " + nodeName},
		{"a pod", s.client(false), []string{"Authorization", "Bearer " + pod("web")}, 200, "for " + podName("web")},
		{"a forged token", s.client(false), []string{"Authorization", "Bearer " + pod("eve")}, 401, "the signature is wrong"},
		{"an opaque token", s.client(false), []string{"Authorization", "Bearer x"}, 401, "none that can be verified"},
		{"nobody", s.client(false), nil, 401, "no credential"},
	} {
		if resp, body := s.do(test.client, "GET", "/api/v1/nodes", "", test.headers...); resp.StatusCode != test.code || !strings.Contains(body, test.message) {
			t.Errorf("%s: got %s %s", test.name, resp.Status, body)
		}
	}
	if resp, body := s.do(c, "GET", "/api/v1/pods?limit=x", ""); resp.StatusCode != 400 || !strings.Contains(body, `"reason":"BadRequest"`) {
		t.Errorf("a malformed request: %s %s", resp.Status, body)
	}
	s.api.Restore()
	eventually(t, 30*time.Second, "online", func() bool { return s.link.State() == upstream.Online })
	if resp, _ := s.do(c, "GET", "/api/v1/nodes", ""); resp.Header.Get("X-Seen-User") != nodeName {
		t.Error("after the link is back the API server does not answer")
	}
	eventually(t, 30*time.Second, "package offline is told", func() bool {
		s.answerer.mu.Lock()
		defer s.answerer.mu.Unlock()
		return fmt.Sprint(s.answerer.states) == "[online offline online]"
	})
}

// TestLinkDiesMidway: what waits for an answer is answered from the cache; writes are not known to be done or not; watches end between
// two events; a list that broke off is seen to be broken.
func TestLinkDiesMidway(t *testing.T) {
	arrived := make(chan struct{}, 3)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Get("watch") != "":
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"type":"ADDED","object":{"kind":"Node","apiVersion":"v1","metadata":{"name":"n1","resourceVersion":"5"}}}`+"\n")
			w.(http.Flusher).Flush()
		case r.URL.RawQuery == "limit=1": // the proxy's own
			http.NotFound(w, r)
			return
		case strings.HasSuffix(r.URL.Path, "/services"):
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"5"},"items":[`+strings.Repeat(" ", 100<<10))
			w.(http.Flusher).Flush()
			arrived <- struct{}{}
		case strings.Contains(r.URL.Path, "/nodes/"):
			arrived <- struct{}{}
		}
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}), nil)
	c := s.client(true)
	eventually(t, 30*time.Second, "online", func() bool { return s.link.State() == upstream.Online })
	lines, _ := s.stream(c, "/api/v1/nodes?watch=true&resourceVersion=4")
	s.next(lines)
	type result struct {
		code int
		body string
		err  error
	}
	begun := make(chan struct{}, 3)
	ask := func(method, path, body string) chan result {
		out := make(chan result, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
			resp, err := c.Do(req)
			if err != nil {
				out <- result{err: err}
				return
			}
			defer resp.Body.Close()
			begun <- struct{}{}
			raw, err := io.ReadAll(resp.Body)
			out <- result{resp.StatusCode, string(raw), err}
		}()
		return out
	}
	read, write, list := ask("GET", "/api/v1/nodes/n1", ""), ask("PATCH", "/api/v1/nodes/n1/status", "{}"), ask("GET", "/api/v1/services", "")
	for range 3 {
		<-arrived
	}
	<-begun // the list's answer
	s.api.Refuse()
	if r := <-read; r.code != 200 || !strings.HasPrefix(r.body, "offline get") {
		t.Errorf("a read: %+v", r)
	}
	if r := <-write; r.code != 503 {
		t.Errorf("a write that may have been done: %+v", r)
	}
	if r := <-list; r.err == nil {
		t.Errorf("half a list looks like a whole one: %+v", r)
	}
	select {
	case line, open := <-lines:
		if open {
			t.Errorf("the watch went on with %s", line)
		}
	case <-time.After(10 * time.Second):
		t.Error("the watch did not end")
	}
}

func TestUpgrade(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocol := r.Header.Get("Upgrade")
		if protocol != "SPDY/3.1" && protocol != "websocket" || r.ProtoMajor != 1 || upstreamtest.User(r) != nodeName {
			http.Error(w, "no exec for "+upstreamtest.User(r), http.StatusForbidden)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n")
		io.Copy(c, rw)
	}), nil)
	for _, protocol := range []string{"SPDY/3.1", "websocket", "unknown"} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), &tls.Config{RootCAs: s.ca.Pool, NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{*s.nodeCert}})
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		// The client does not wait for the answer before it sends on.
		fmt.Fprintf(conn, "POST /api/v1/namespaces/d/pods/p/exec?command=sh HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n", protocol)
		want := "403 Forbidden"
		if protocol != "unknown" {
			want = "ping"
			io.WriteString(conn, "ping")
		}
		var got strings.Builder
		buf := make([]byte, 4096)
		for !strings.Contains(got.String(), want) {
			n, err := conn.Read(buf)
			got.Write(buf[:n])
			if err != nil {
				t.Fatalf("%s: %v after %s", protocol, err, got.String())
			}
		}
		if protocol != "unknown" && (!strings.HasPrefix(got.String(), "HTTP/1.1 101 ") || !strings.Contains(got.String(), "Upgrade: "+protocol) || !strings.Contains(got.String(), "X-Stream-Protocol-Version: v4.channel.k8s.io")) {
			t.Errorf("got %s", got.String())
		}
		conn.Close()
	}
}

func TestTokensAreRemembered(t *testing.T) {
	s := start(t, seen, nil)
	_, body := s.do(s.client(true), "POST", "/api/v1/namespaces/default/serviceaccounts/web/token", `{"spec":{"audiences":["a"]}}`, "Content-Type", "application/json")
	s.answerer.mu.Lock()
	defer s.answerer.mu.Unlock()
	if len(s.answerer.memories) != 1 {
		t.Fatalf("remembered %d exchanges", len(s.answerer.memories))
	}
	e := s.answerer.memories[0]
	if string(e.Request) != `{"spec":{"audiences":["a"]}}` || string(e.Response) != body || e.Code != 200 || e.RequestType != "application/json" {
		t.Errorf("remembered %+v", e)
	}
}

// TestIdleConnections: ten thousand connections of a stranger do not keep the node out.
func TestIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("opens many connections")
	}
	s := start(t, seen, nil)
	address := strings.TrimPrefix(s.url, "https://")
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	for i := range int(min(10_000, files.Cur-files.Cur/4)) { // both ends are here, but the server's are few
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		conns = append(conns, c)
		if i%1000 == 500 {
			began := time.Now()
			if resp, _ := s.do(s.client(true), "GET", "/api/v1/nodes", ""); resp.StatusCode != 200 {
				t.Fatalf("after %d connections the node got %s", i, resp.Status)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("after %d connections the node waited %v", i, took)
			}
		}
	}
	open := 0
	eventually(t, 30*time.Second, "strangers are let go", func() bool {
		open = 0
		for _, c := range conns {
			c.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				open++
			}
		}
		return open <= 150
	})
}

// TestEndlessBodies: a request, or an answer, that never ends holds nothing up and is not held in memory.
func TestEndlessBodies(t *testing.T) {
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		block := strings.Repeat(" ", 64<<10)
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, block); err != nil {
				return
			}
		}
	}), nil)
	c := s.client(true)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	pr, pw := io.Pipe()
	go func() {
		block := make([]byte, 64<<10)
		for {
			if _, err := pw.Write(block); err != nil {
				return
			}
		}
	}()
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/api/v1/namespaces/d/pods", pr)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	pr.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a request without end: %s", resp.Status)
	}
	req, _ = http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/v1/pods", nil)
	if resp, err = c.Do(req); err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(io.Discard, resp.Body, 4<<20); err != nil {
		t.Errorf("an answer without end broke off after %d bytes: %v", n, err)
	}
	resp.Body.Close()
}
