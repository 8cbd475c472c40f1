package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

const maps = "/api/v1/namespaces/default/configmaps"

func mapsOf(identity string) scope.Key {
	return scope.Key{Identity: identity, Resource: scope.Resource{Version: "v1", Resource: "configmaps"}, Namespace: "default"}
}

// stream opens a watch and gives its lines.
func (s *site) stream(c *http.Client, path string, headers ...string) (lines chan string, stop func()) {
	s.tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		cancel()
		s.tb.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		s.tb.Errorf("watch %s: %s", path, resp.Status)
	}
	lines = make(chan string, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(lines)
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		for {
			line, err := r.ReadString('\n')
			if line != "" {
				lines <- line
			}
			if err != nil {
				if err != io.EOF {
					lines <- "error: " + err.Error()
				}
				return
			}
		}
	}()
	stop = func() { cancel(); <-done }
	s.tb.Cleanup(stop)
	return lines, stop
}

// next waits for a line.
func (s *site) next(lines chan string) string {
	s.tb.Helper()
	select {
	case line := <-lines:
		return line
	case <-time.After(10 * time.Second):
		s.tb.Fatal("no event came")
		return ""
	}
}

// kept waits until the store holds names at a version.
func (s *site) kept(key scope.Key, version int, names string) {
	s.tb.Helper()
	want := fmt.Sprintf("%d: %s", version, names)
	var got string
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		v, n := s.store.names(key)
		if got = v + ": " + n; got == want {
			return
		}
		if time.Now().After(deadline) {
			s.tb.Fatalf("kept is %q, want %q", got, want)
		}
	}
}

func TestListAndWatchAreKept(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		t.Run(fmt.Sprintf("gzip=%v", compressed), func(t *testing.T) {
			k := newKube("a", "b")
			k.gzip = compressed
			s := start(t, k, nil)
			c := s.client(true)
			resp, body := s.do(c, "GET", maps, "", "Accept-Encoding", "gzip")
			if resp.Header.Get("Audit-Id") != "a1" || resp.Header.Get("Content-Encoding") == "gzip" != compressed || body == "" {
				t.Errorf("the answer is not as upstream sent it: %v", resp.Header)
			}
			s.kept(mapsOf(nodeName), 12, "default/a default/b")
			lines, _ := s.stream(c, maps+"?watch=true&resourceVersion=12")
			k.add("c")
			k.delete("a")
			s.kept(mapsOf(nodeName), 14, "default/b default/c")
			if first := s.next(lines); !strings.Contains(first, `"resourceVersion":"13"`) {
				t.Errorf("first event is %s", first)
			}
			if k.lists != 1 {
				t.Errorf("the API server was asked for %d lists, want 1", k.lists)
			}
		})
	}
}

func TestPagesMakeOneScope(t *testing.T) {
	k := newKube("a", "b", "c", "d", "e")
	s := start(t, k, nil)
	c := s.client(true)
	s.do(c, "GET", maps+"?limit=2", "")
	k.add("f") // the pages are of one state
	s.do(c, "GET", maps+"?limit=2&continue=c15-2", "")
	if v, _ := s.store.names(mapsOf(nodeName)); v != "" {
		t.Errorf("a list without its last page was kept: %s", v)
	}
	s.do(c, "GET", maps+"?limit=2&continue=c15-4", "")
	s.kept(mapsOf(nodeName), 15, "default/a default/b default/c default/d default/e default/f")
	s.do(c, "GET", maps+"?limit=2&continue=c15-4", "") // the last page alone is no list
	if log := s.store.log; len(log) != 1 {
		t.Errorf("the store was told %v", log)
	}
}

func TestWatchListIsStaged(t *testing.T) {
	k := newKube("a", "b")
	s := start(t, k, nil)
	lines, _ := s.stream(s.client(true), maps+"?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
	for range 3 {
		s.next(lines)
	}
	s.kept(mapsOf(nodeName), 12, "default/a default/b")
	k.delete("b")
	s.kept(mapsOf(nodeName), 13, "default/a")
	if k.lists != 0 {
		t.Error("a list was asked for although the watch brought all")
	}
}

// TestGap: a watch that begins later than what is kept makes the proxy list the scope anew, and no event is lost meanwhile.
func TestGap(t *testing.T) {
	k := newKube("a", "b")
	s := start(t, k, nil)
	c := s.client(true)
	s.do(c, "GET", maps, "")
	s.kept(mapsOf(nodeName), 12, "default/a default/b")
	k.delete("a")
	k.add("c")
	lines, _ := s.stream(c, maps+"?watch=true&resourceVersion=14")
	k.add("d")
	s.kept(mapsOf(nodeName), 15, "default/b default/c default/d")
	if first := s.next(lines); !strings.Contains(first, `"resourceVersion":"15"`) {
		t.Errorf("first event is %s", first)
	}
	k.add("e")
	s.kept(mapsOf(nodeName), 16, "default/b default/c default/d default/e")
	if v := s.store.log; len(v) != 3 || v[1] != "dirty configmaps" {
		t.Errorf("the store was told %v, want a list, dirty, a list", v)
	}
}

// TestGapWithoutScope: a watch of what was never listed is not followed from nothing.
func TestGapWithoutScope(t *testing.T) {
	k := newKube("a")
	s := start(t, k, nil)
	s.stream(s.client(true), maps+"?watch=true&resourceVersion=11")
	s.kept(mapsOf(nodeName), 11, "default/a")
	k.add("b")
	s.kept(mapsOf(nodeName), 12, "default/a default/b")
}

// TestOlderWatch: events that are kept already are skipped.
func TestOlderWatch(t *testing.T) {
	k := newKube("a", "b")
	k.delete("a")
	s := start(t, k, nil)
	c := s.client(true)
	s.do(c, "GET", maps, "")
	s.kept(mapsOf(nodeName), 13, "default/b")
	lines, _ := s.stream(c, maps+"?watch=true&resourceVersion=10")
	for range 3 {
		s.next(lines)
	}
	k.add("c")
	s.kept(mapsOf(nodeName), 14, "default/b default/c")
	if k.lists != 1 {
		t.Error("a list was asked for although there was no gap")
	}
}

func TestBehindListIsNotKept(t *testing.T) {
	k := newKube("a", "b")
	s := start(t, k, nil)
	c := s.client(true)
	s.do(c, "GET", maps, "")
	k.set(func(k *kube) { k.events, k.version = k.events[:1], 11 }) // another server, whose cache is behind
	s.do(c, "GET", maps+"?resourceVersion=0", "")
	s.kept(mapsOf(nodeName), 12, "default/a default/b")
	s.do(c, "GET", maps, "") // asked for the newest, this is the truth: upstream was restored
	s.kept(mapsOf(nodeName), 11, "default/a")
}

// TestOvertakenListIsNotKept: events that come while a list is read make what is kept newer than the list. To keep the list would lose them.
func TestOvertakenListIsNotKept(t *testing.T) {
	k := newKube("a", "b")
	s := start(t, k, nil)
	c := s.client(true)
	s.do(c, "GET", maps, "")
	s.stream(c, maps+"?watch=true&resourceVersion=12")
	s.do(c, "GET", maps+"?limit=1", "")
	k.delete("a")
	s.kept(mapsOf(nodeName), 13, "default/b")
	s.do(c, "GET", maps+"?limit=1&continue=c12-1", "") // completes a list of version 12
	s.kept(mapsOf(nodeName), 13, "default/b")
	k.add("c")
	s.kept(mapsOf(nodeName), 14, "default/b default/c")
	if log := s.store.log; len(log) != 1 {
		t.Errorf("the store was told %v, want one list", log)
	}
}

// TestEndlessListIsGivenUp: a list that is too large to be kept is neither read to an end that may not come, nor asked for again at once.
func TestEndlessListIsGivenUp(t *testing.T) {
	asked, ended := make(chan struct{}, 9), make(chan struct{}, 9)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case !strings.HasSuffix(r.URL.Path, "/configmaps"): // the proxy's own requests
			w.WriteHeader(http.StatusNotFound)
		case r.URL.Query().Get("watch") != "":
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			asked <- struct{}{}
			_, err := io.WriteString(w, `{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"12"},"items":[{"metadata":{"name":"`)
			for block := strings.Repeat("x", 64<<10); err == nil && r.Context().Err() == nil; {
				_, err = io.WriteString(w, block)
			}
			ended <- struct{}{}
		}
	}), nil)
	s.stream(s.client(true), maps+"?watch=true&resourceVersion=11")
	for _, c := range []chan struct{}{asked, ended} {
		select {
		case <-c:
		case <-time.After(20 * time.Second):
			t.Fatal("the list was not asked for, or is still read")
		}
	}
	select {
	case <-asked:
		t.Error("it was asked for again")
	case <-time.After(1500 * time.Millisecond): // an attempt that may do better comes within a second
	}
}

func TestObjects(t *testing.T) {
	k := newKube("a")
	s := start(t, k, nil)
	c := s.client(true)
	key := mapsOf(nodeName)
	key.Name = "a"
	s.do(c, "GET", maps+"/a", "")
	s.kept(key, 11, "default/a")
	read := s.store.scopes[key].info.Read
	s.do(c, "GET", maps+"/a", "") // the same again is no change
	if info, _ := s.store.Info(key); len(s.store.log) != 1 || !info.Read.After(read) {
		t.Errorf("the store was told %v, at %v and %v", s.store.log, read, info.Read)
	}
	k.delete("a")
	if resp, _ := s.do(c, "GET", maps+"/a", ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("got %s", resp.Status)
	}
	if v, _ := s.store.names(key); v != "" {
		t.Error("an object that is gone was kept")
	}
}

func TestForbidden(t *testing.T) {
	k := newKube("a")
	s := start(t, k, nil)
	c := s.client(true)
	one := mapsOf(nodeName)
	one.Name = "a"
	s.do(c, "GET", maps, "")
	s.do(c, "GET", maps+"/a", "")
	k.set(func(k *kube) { k.refuse = http.StatusForbidden })
	s.do(c, "GET", maps+"/a", "")
	if v, _ := s.store.names(one); v != "" {
		t.Error("an object that is refused now was kept")
	}
	s.kept(mapsOf(nodeName), 11, "default/a") // one object's refusal says nothing of the others
	s.do(c, "GET", maps, "")
	if v, _ := s.store.names(mapsOf(nodeName)); v != "" {
		t.Error("a list that is refused now was kept")
	}
}

// TestForbiddenCollection: what the node may not list as a whole it may still read in part. For anybody else, RBAC has refused the parts too.
func TestForbiddenCollection(t *testing.T) {
	const part = maps + "?labelSelector=app%3Dweb"
	for _, test := range []struct {
		name, identity, token, kept string
	}{
		{"the node", nodeName, "", "11"},
		{"a pod", podName("web"), pod("web"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := newKube("a")
			s := start(t, k, nil)
			c, headers := s.client(test.token == ""), []string{}
			if test.token != "" {
				headers = []string{"Authorization", "Bearer " + test.token}
			}
			some := mapsOf(test.identity)
			some.Labels = "app=web"
			s.do(c, "GET", part, "", headers...)
			s.kept(some, 11, "default/a")
			k.set(func(k *kube) { k.refuse = http.StatusForbidden })
			s.do(c, "GET", maps, "", headers...)
			if v, _ := s.store.names(some); v != test.kept {
				t.Errorf("the part is kept as of version %q, want %q", v, test.kept)
			}
		})
	}
}

func TestCallersAreApart(t *testing.T) {
	s := start(t, newKube("a"), nil)
	s.auth.forged = func(token string) bool { return token == pod("eve") }
	c := s.client(false)
	s.do(c, "GET", maps, "", "Authorization", "Bearer "+pod("web"))
	s.kept(mapsOf(podName("web")), 11, "default/a")
	s.do(c, "GET", maps, "", "Authorization", "Bearer "+pod("web"), "Impersonate-User", "admin")
	s.do(c, "GET", maps, "", "Authorization", "Bearer opaque")
	if got := fmt.Sprint(s.store.log); got != "[replace configmaps 11 1]" {
		t.Errorf("the store was told %s", got)
	}
	// Once tokens can be verified without upstream, one that does not stand that is not believed what it says of itself.
	s.store.PutDocument(nodeName, "/openid/v1/jwks", scope.Document{Body: []byte("{}")})
	s.do(c, "GET", maps, "", "Authorization", "Bearer "+pod("eve"))
	if v, _ := s.store.names(mapsOf(podName("eve"))); v != "" {
		t.Error("what a forged token read was kept")
	}
}

func TestNeverKept(t *testing.T) {
	s := start(t, newKube("a"), nil)
	c := s.client(true)
	s.SetSettings(settings("configmaps"))
	s.do(c, "GET", maps, "")
	if len(s.store.log) != 0 {
		t.Errorf("the store was told %v", s.store.log)
	}
	s.SetSettings(settings())
	s.do(c, "GET", maps, "")
	s.kept(mapsOf(nodeName), 11, "default/a")
}

// TestRelist: a scope that the store gave up is read anew.
func TestRelist(t *testing.T) {
	k := newKube("a")
	s := start(t, k, nil)
	c := s.client(true)
	s.do(c, "GET", maps, "")
	k.add("b")
	s.store.Dirty(mapsOf(nodeName), "the disk is slow")
	s.Relist(mapsOf(nodeName))
	s.kept(mapsOf(nodeName), 12, "default/a default/b")
}

// TestRestored: after the API server was restored from an older state a client that knows a later one is told to list again, once,
// and what was kept of the other history is read anew.
func TestRestored(t *testing.T) {
	k := newKube("a", "b", "c", "d")
	s := start(t, k, nil)
	c := s.client(true)
	s.do(c, "GET", maps, "")
	s.kept(mapsOf(nodeName), 14, "default/a default/b default/c default/d")
	lines, stop := s.stream(c, maps+"?watch=true&resourceVersion=14")
	s.restore(k)
	for range lines {
	}
	stop()
	for _, version := range []string{"14", "12"} { // ahead of upstream, and within reach of it again
		s.expired(c, maps+"?watch=true&resourceVersion="+version)
	}
	s.do(c, "GET", maps, "")
	s.kept(mapsOf(nodeName), 12, "default/a default/b")
	s.stream(c, maps+"?watch=true&resourceVersion=12")
	k.add("e")
	s.kept(mapsOf(nodeName), 13, "default/a default/b default/e")
}

// restore takes the link down and has the API server forget all but the first two objects.
func (s *site) restore(k *kube) {
	s.tb.Helper()
	s.api.Refuse()
	eventually(s.tb, 30*time.Second, "offline", func() bool { return s.link.State() == upstream.Offline })
	k.set(func(k *kube) { k.events, k.version = k.events[:2], 12 })
	s.api.Restore()
	eventually(s.tb, 30*time.Second, "online", func() bool { return s.link.State() == upstream.Online })
}

// expired checks that a watch is told to list again.
func (s *site) expired(c *http.Client, path string, headers ...string) {
	s.tb.Helper()
	resp, body := s.do(c, "GET", path, "", headers...)
	if resp.StatusCode != http.StatusGone || !strings.Contains(body, `"reason":"Expired"`) {
		s.tb.Errorf("watch %s: %s %s", path, resp.Status, body)
	}
}

// TestRestoredBeforeTheClientStarts: a client that knows nothing of the other history is content with any version, as a kubelet is when
// it starts. What was kept gives way all the same.
func TestRestoredBeforeTheClientStarts(t *testing.T) {
	k := newKube("a", "b", "c", "d")
	s := start(t, k, nil)
	c := s.client(true)
	s.do(c, "GET", maps, "")
	s.kept(mapsOf(nodeName), 14, "default/a default/b default/c default/d")
	s.restore(k)
	s.do(c, "GET", maps+"?resourceVersion=0", "")
	s.expired(c, maps+"?watch=true&resourceVersion=12")
	s.do(c, "GET", maps+"?resourceVersion=12", "")
	s.kept(mapsOf(nodeName), 12, "default/a default/b")
	lines, _ := s.stream(c, maps+"?watch=true&resourceVersion=12")
	k.add("e")
	s.kept(mapsOf(nodeName), 13, "default/a default/b default/e")
	if first := s.next(lines); !strings.Contains(first, `"name":"e"`) {
		t.Errorf("first event is %s", first)
	}
}

// TestRestoredUnkept: also who reads what is not kept, and who reads custom resources, is told.
func TestRestoredUnkept(t *testing.T) {
	const custom = "/apis/shop.example.com/v1/namespaces/default/configmaps"
	k := newKube("a", "b", "c", "d")
	s := start(t, k, nil)
	c, pods := s.client(true), s.client(false)
	s.do(c, "GET", custom, "")
	key := mapsOf(nodeName)
	key.Resource = scope.Resource{Group: "shop.example.com", Version: "v1", Resource: "configmaps"}
	s.kept(key, 14, "default/a default/b default/c default/d")
	s.do(c, "GET", maps, "") // by which the restore is noticed
	s.kept(mapsOf(nodeName), 14, "default/a default/b default/c default/d")
	s.restore(k)
	s.expired(c, custom+"?watch=true&resourceVersion=14")
	s.do(c, "GET", custom+"?resourceVersion=12", "")
	s.kept(key, 12, "default/a default/b")
	s.expired(pods, maps+"?watch=true&resourceVersion=14", "Authorization", "Bearer opaque")
	s.stream(pods, maps+"?watch=true&resourceVersion=12", "Authorization", "Bearer opaque")
}
