package proxy_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// kube is a small API server for config maps: it lists, in pages too, watches, and begins watches with what there is.
type kube struct {
	mu      sync.Mutex
	version int
	events  []event
	changed chan struct{}
	lists   int
	refuse  int  // status to answer with, or 0
	gzip    bool // compress lists
	compact int  // events up to this version are forgotten
}

type event struct {
	version   int
	kind      string
	namespace string
	name      string
}

func newKube(names ...string) *kube {
	k := &kube{version: 10, changed: make(chan struct{})}
	for _, name := range names {
		k.add(name)
	}
	return k
}

func (k *kube) add(name string)    { k.change("ADDED", name) }
func (k *kube) delete(name string) { k.change("DELETED", name) }

func (k *kube) change(kind, name string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.version++
	k.events = append(k.events, event{k.version, kind, "default", name})
	close(k.changed)
	k.changed = make(chan struct{})
	return k.version
}

func (k *kube) set(f func(*kube)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(k)
}

func (e event) object() string {
	return fmt.Sprintf(`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":%q,"namespace":%q,"uid":"u-%s","resourceVersion":"%d"},"data":{"k":"v"}}`, e.name, e.namespace, e.name, e.version)
}

// now gives what there is. The lock is held.
func (k *kube) now() []event {
	var out []event
	for _, e := range k.events {
		out = slices.DeleteFunc(out, func(o event) bool { return o.name == e.name })
		if e.kind != "DELETED" {
			out = append(out, e)
		}
	}
	return out
}

func (k *kube) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	refuse := k.refuse
	k.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Audit-Id", "a1")
	q := r.URL.Query()
	name, single := strings.CutPrefix(r.URL.Path, "/api/v1/namespaces/default/configmaps/")
	switch {
	case r.URL.Path == "/api/v1/services":
		k.mu.Lock()
		fmt.Fprintf(w, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"%d"},"items":[]}`, k.version)
		k.mu.Unlock()
	case !strings.Contains(r.URL.Path, "/configmaps"): // the proxy's own requests
		w.WriteHeader(http.StatusNotFound)
	case refuse != 0:
		w.WriteHeader(refuse)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d}`, refuse)
	case single:
		k.get(w, name)
	case q.Get("watch") != "":
		k.watch(w, r)
	default:
		k.list(w, r)
	}
}

func (k *kube) get(w http.ResponseWriter, name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.now() {
		if e.name == name {
			io.WriteString(w, e.object())
			return
		}
	}
	w.WriteHeader(http.StatusNotFound)
	io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
}

func (k *kube) list(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lists++
	items := k.now()
	version := k.version
	next := ""
	if limit, _ := strconv.Atoi(r.URL.Query().Get("limit")); limit > 0 {
		from := 0
		if token := r.URL.Query().Get("continue"); token != "" {
			fmt.Sscanf(token, "c%d-%d", &version, &from)
		}
		rest := items[from:]
		if len(rest) > limit {
			rest = rest[:limit]
			next = fmt.Sprintf("c%d-%d", version, from+limit)
		}
		items = rest
	}
	var objects []string
	for _, e := range items {
		objects = append(objects, strings.Replace(e.object(), `"kind":"ConfigMap","apiVersion":"v1",`, "", 1))
	}
	body := fmt.Sprintf(`{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"%d","continue":%q},"items":[%s]}`, version, next, strings.Join(objects, ","))
	if k.gzip && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		var b bytes.Buffer
		gz := gzip.NewWriter(&b)
		io.WriteString(gz, body)
		gz.Close()
		body = b.String()
	}
	io.WriteString(w, body)
}

func (k *kube) watch(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	flush := w.(http.Flusher).Flush
	k.mu.Lock()
	at, _ := strconv.Atoi(q.Get("resourceVersion"))
	if at < k.compact && q.Get("sendInitialEvents") == "" {
		k.mu.Unlock()
		io.WriteString(w, `{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}}`+"\n")
		return
	}
	if q.Get("sendInitialEvents") == "true" {
		for _, e := range k.now() {
			fmt.Fprintf(w, `{"type":"ADDED","object":%s}`+"\n", e.object())
		}
		at = k.version
		fmt.Fprintf(w, `{"type":"BOOKMARK","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"%d","annotations":{"k8s.io/initial-events-end":"true"}}}}`+"\n", at)
	}
	k.mu.Unlock()
	flush()
	for {
		k.mu.Lock()
		changed := k.changed
		for _, e := range k.events {
			if e.version > at {
				fmt.Fprintf(w, `{"type":%q,"object":%s}`+"\n", e.kind, e.object())
				at = e.version
			}
		}
		k.mu.Unlock()
		flush()
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
	}
}
