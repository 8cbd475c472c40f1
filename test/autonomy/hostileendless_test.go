//go:build e2e

package autonomy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// endlessBytes is where the test ends what does not end by itself, endlessTime when.
	endlessBytes, endlessTime = 64 << 20, 5 * time.Second
	// endlessMemory is by how much the agent may grow for it.
	endlessMemory = 24 << 20
	// endlessListMemory is the same for lists, which are held until they are whole and can be kept: 96 MiB of all together, and what the
	// garbage collector takes to notice.
	endlessListMemory = 224 << 20
	// mostOfCaller is more than one caller may have under way.
	mostOfCaller = 1000
	// unreadStreams are answers that nobody reads.
	unreadStreams = 100
	endlessAPI    = "/apis/endless.example.com/v1"
)

// endlessRequests sends bodies that do not end.
func (h *hostile) endlessRequests() {
	h.Helper()
	node, pod := h.client(h.asNode()), h.client(h.asPod(h.teller))
	for _, r := range []struct {
		name, method, path, media string
		client                    *http.Client
		online, offline           []int
	}{
		{"an object", http.MethodPost, "/api/v1/namespaces/bank/configmaps", "application/json", pod, []int{413}, []int{503}},
		{"an object of somebody else's", http.MethodPost, "/api/v1/namespaces/shop/configmaps", "application/json", pod, []int{403}, []int{403, 503}},
		{"a token request", http.MethodPost, "/api/v1/namespaces/bank/serviceaccounts/teller/token", "application/json", pod, []int{403, 413}, []int{403, 413, 503}},
		{"a review", http.MethodPost, "/apis/authentication.k8s.io/v1/tokenreviews", "application/json", node, []int{403, 413}, []int{413, 503}},
		{"a node's status", http.MethodPatch, "/api/v1/nodes/shop-1/status", "application/strategic-merge-patch+json", node, []int{413}, []int{413}},
		{"an event", http.MethodPost, "/api/v1/namespaces/bank/events", "application/json", node, []int{403, 413}, []int{413, 503}},
		{"a body of a GET", http.MethodGet, "/api/v1/nodes/shop-1", "application/json", node, []int{200, 400}, []int{200, 400}},
	} {
		var code int
		var sent int64
		var err error
		used := h.grows("a request without end: "+r.name, endlessMemory, func() { code, sent, err = h.endless(r.client, r.method, r.path, r.media) })
		want := r.online
		if h.offline {
			want = r.offline
		}
		if err != nil || !slices.Contains(want, code) {
			h.Errorf("%s without end: answered %d, %v after %d MiB, want %v", r.name, code, err, sent>>20, want)
		}
		h.Logf("%s without end: %d after %d KiB, grew by %d MiB", r.name, code, sent>>10, used>>20)
	}
}

// endless sends a body until there is an answer.
func (h *hostile) endless(client *http.Client, method, path, media string) (code int, sent int64, err error) {
	ctx, cancel := context.WithTimeout(h.Context(), 2*endlessTime)
	defer cancel()
	body := &blanks{left: 4 * endlessBytes}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+h.proxy+path, body)
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("Content-Type", media)
	resp, err := client.Do(req)
	if err != nil {
		return 0, body.sent(), err
	}
	resp.Body.Close()
	return resp.StatusCode, body.sent(), nil
}

// blanks is a string in JSON that does not end.
type blanks struct {
	mu   sync.Mutex
	left int64
	n    int64
}

func (b *blanks) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left <= 0 {
		return 0, errors.New("it was read to the end of what the test has")
	}
	if b.n == 0 && len(p) > 1 {
		b.n = int64(copy(p, `{"metadata":{"name":"`))
		return int(b.n), nil
	}
	for i := range p {
		p[i] = 'x'
	}
	b.left -= int64(len(p))
	b.n += int64(len(p))
	return len(p), nil
}

func (b *blanks) sent() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

// endlessAnswers reads answers that do not end, and has a crowd of them that nobody reads. Offline there is none but watches, of which a
// caller has no more than its share.
func (h *hostile) endlessAnswers() {
	h.Helper()
	client := h.client(h.asPod(h.reader))
	streams := []string{endlessAPI + "/namespaces/shop/things/one/log", endlessAPI + "/things?watch=true", endlessAPI + "/walls?watch=true", endlessAPI + "/things", endlessAPI + "/walls"}
	if h.offline {
		streams = nil
	}
	for _, path := range streams {
		limit := endlessListMemory // a watch makes the proxy list what it is of, too
		if strings.HasSuffix(path, "/log") {
			limit = endlessMemory
		}
		var got int64
		used := h.grows("an answer without end: "+path, limit, func() {
			ctx, cancel := context.WithTimeout(h.Context(), endlessTime)
			defer cancel()
			resp, err := h.open(ctx, client, path)
			h.must(err)
			defer resp.Body.Close()
			got, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, endlessBytes))
			if resp.StatusCode != http.StatusOK || got < 1<<20 {
				h.Errorf("%s: %s, %d bytes", path, resp.Status, got)
			}
		})
		h.Logf("%s: read %d MiB, grew by %d MiB", path, got>>20, used>>20)
	}
	h.unread(client)
}

// unread opens streams and reads none of them.
func (h *hostile) unread(client *http.Client) {
	h.Helper()
	path := endlessAPI + "/namespaces/shop/things/one/log"
	if h.offline {
		path = shopPath + "?watch=true&resourceVersion=0"
	}
	ctx, cancel := context.WithCancel(h.Context())
	defer cancel()
	node := h.client(h.asNode())
	used := h.grows("answers that nobody reads", 2*endlessMemory, func() {
		for range unreadStreams {
			resp, err := h.open(ctx, client, path)
			h.must(err)
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				h.Fatalf("%s: %s", path, resp.Status)
			}
		}
		for range 50 {
			h.must(h.servesNode(node))
		}
	})
	h.Logf("%d answers that nobody reads: grew by %d MiB", unreadStreams, used>>20)
	// Beyond its share a caller is told to wait; the node is not.
	for more := 0; ; more++ {
		resp, err := h.open(ctx, client, path)
		h.must(err)
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusTooManyRequests {
			break
		}
		if unreadStreams+more > mostOfCaller {
			h.Errorf("a caller has %d requests under way", unreadStreams+more)
			break
		}
	}
	h.must(h.servesNode(node))
}

func (h *hostile) open(ctx context.Context, client *http.Client, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+h.proxy+path, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

// serveEndless puts an API server of the test's own behind the real one, that answers without end.
func (h *hostile) serveEndless() {
	h.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(answerEndlessly))
	h.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	port := server.Listener.Addr().(*net.TCPAddr).Port
	h.must(h.lab.Request(h.Context(), http.MethodPost, "/api/v1/namespaces/shop/services", map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "endless"},
		"spec": map[string]any{"type": "ExternalName", "externalName": "localhost", "ports": []map[string]any{{"port": port}}}}, nil))
	h.must(h.lab.Request(h.Context(), http.MethodPost, "/apis/apiregistration.k8s.io/v1/apiservices", map[string]any{
		"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": map[string]any{"name": "v1.endless.example.com"},
		"spec": map[string]any{"group": "endless.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
			"insecureSkipTLSVerify": true, "service": map[string]any{"namespace": "shop", "name": "endless", "port": port}}}, nil))
	h.within(time.Minute, func() error { return h.lab.Request(h.Context(), http.MethodGet, endlessAPI, nil, nil) })
}

// answerEndlessly is an API of things, of which there is no end, and of walls, each of which has none.
func answerEndlessly(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, endlessAPI)
	wall := strings.Contains(path, "walls")
	once, again := `{"kind":"ThingList","apiVersion":"endless.example.com/v1","metadata":{"resourceVersion":"7"},"items":[`+thing(0), ","+thing(1)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case path == "" || path == r.URL.Path:
		fmt.Fprint(w, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"endless.example.com/v1","resources":[`+
			`{"name":"things","singularName":"thing","namespaced":true,"kind":"Thing","verbs":["get","list","watch"]},`+
			`{"name":"walls","singularName":"wall","namespaced":true,"kind":"Wall","verbs":["get","list","watch"]}]}`)
		return
	case strings.HasSuffix(path, "/log"):
		w.Header().Set("Content-Type", "text/plain")
		once, again = "", strings.Repeat("a line of a log\n", 64)
	case r.URL.Query().Get("watch") != "" && wall:
		once, again = `{"type":"ADDED","object":`+strings.TrimSuffix(thing(0), `"}}`), "brick"
	case r.URL.Query().Get("watch") != "":
		once, again = "", `{"type":"ADDED","object":`+thing(1)+"}\n"
	case wall:
		once, again = strings.TrimSuffix(once, `"}}`), "brick"
	}
	again = strings.Repeat(again, max(1, 16<<10/len(again)))
	for _, err := io.WriteString(w, once); err == nil && r.Context().Err() == nil; {
		_, err = io.WriteString(w, again)
	}
}

// thing is one object of about 1 KiB.
func thing(n int) string {
	return fmt.Sprintf(`{"kind":"Thing","apiVersion":"endless.example.com/v1","metadata":{"name":"thing-%d","namespace":"shop","uid":"u-%d","resourceVersion":"7"},"spec":{"text":"%s"}}`,
		n, n, strings.Repeat("stone ", 160))
}
