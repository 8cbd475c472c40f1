package cache

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// TestNothingIsWrittenWhenNothingChanges: heartbeats, bookmarks, lists and documents that are as before, renewed tokens. They are seen at
// once, cost no flush, and survive an orderly end.
func TestNothingIsWrittenWhenNothingChanges(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, Options{GroupDelay: time.Millisecond})
	a, b := pod("a", 9), pod("b", 10)
	c.Replace(nodePods, podList, "10", []scope.Item{a, b})
	doc := Document{ContentType: "application/json", ETag: "1", Body: []byte("discovery")}
	c.PutDocument(node, "/api", doc)
	c.PutToken("t", []byte("token 1"))
	flush(t, c)
	before := commits(t, dir)
	beat := b
	for v := 11; v < 50; v += 2 {
		beat = pod("b", v)
		beat.Essence = b.Essence
		c.Apply(nodePods, fmt.Sprint(v), []scope.Event{put(beat)})
		c.Advance(nodePods, fmt.Sprint(v+1))
		c.PutToken("t", []byte("token 2"))
		c.wakeUp()
		holds(t, c, nodePods, fmt.Sprint(v+1), a, beat)
	}
	c.Replace(nodePods, podList, "51", []scope.Item{a, beat})
	c.wakeUp()
	idle(t, c)
	holds(t, c, nodePods, "51", a, beat)
	if raw, ok, err := c.Token("t"); !ok || err != nil || string(raw) != "token 2" {
		t.Fatalf("%q %v %v", raw, ok, err)
	}
	if s := c.Stats(); s.QuietBytes == 0 {
		t.Fatalf("%+v", s)
	}
	if after := commits(t, dir); after != before {
		t.Fatalf("%d commits", after-before)
	}
	closed(t, c)
	if after := commits(t, dir); after != before+1 {
		t.Fatalf("%d commits at the end", after-before)
	}
	c = open(t, dir, Options{GroupDelay: time.Millisecond})
	holds(t, c, nodePods, "51", a, beat)
	// The first real change takes everything else along.
	c.Advance(nodePods, "60")
	c.Apply(nodePods, "61", []scope.Event{put(pod("c", 61))})
	flush(t, c)
	holds(t, c, nodePods, "61", a, beat, pod("c", 61))
	closed(t, c)
	consistent(t, dir)
}

// idle waits until the writer has nothing in hand.
func idle(t testing.TB, c *Cache) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		c.mu.RLock()
		calm := len(c.queue) == 0 && len(c.wake) == 0 && len(c.urgent) == 0
		for _, e := range c.scopes {
			calm = calm && e.writing == nil && e.pending == nil
		}
		c.mu.RUnlock()
		if calm {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the writer does not come to rest")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestQuietIsBounded: heartbeats are written when too many of them are in memory.
func TestQuietIsBounded(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, Options{GroupDelay: time.Millisecond, MaxQuiet: 40 << 10})
	var items []scope.Item
	for i := range 40 {
		items = append(items, pod(fmt.Sprintf("p%02d", i), i+1))
	}
	c.Replace(nodePods, podList, "100", items)
	flush(t, c)
	for i := range items {
		essence := items[i].Essence
		items[i] = pod(items[i].Name, 101+i)
		items[i].Essence = essence
		c.Apply(nodePods, items[i].Version, []scope.Event{put(items[i])})
		c.wakeUp()
		idle(t, c)
	}
	for deadline := time.Now().Add(20 * time.Second); c.Stats().QuietBytes > 40<<10; {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", c.Stats())
		}
		time.Sleep(time.Millisecond)
	}
	holds(t, c, nodePods, "140", items...)
	closed(t, c)
	consistent(t, dir)
}

func TestOutbox(t *testing.T) {
	dir := t.TempDir()
	o := Options{GroupDelay: time.Hour, Rings: map[string]int{"events": 3}, MaxOutbox: 1000}
	c := open(t, dir, o)
	want := func(c *Cache, bucket, want string) {
		t.Helper()
		var got []string
		for q, err := range c.Pending(bucket) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, q.Key+"="+string(q.Value))
		}
		if strings.Join(got, " ") != want {
			t.Fatalf("%s: %v, want %s", bucket, got, want)
		}
	}
	for _, q := range []string{"n1=1", "p2=1", "p1=1", "n1=2"} {
		enqueue(t, c, "status", q[:2], q[3:])
	}
	want(c, "status", "p2=1 p1=1 n1=2")
	first, ok, err := c.Waiting("status", "p2")
	if !ok || err != nil || string(first.Value) != "1" {
		t.Fatal(first, ok, err)
	}
	enqueue(t, c, "status", "p2", "newer")
	c.Done("status", "p2", first.Seq)
	want(c, "status", "p1=1 n1=2 p2=newer")
	done, _, _ := c.Waiting("status", "p1")
	c.Done("status", "p1", done.Seq)
	want(c, "status", "n1=2 p2=newer")
	flush(t, c)
	for i := range 5 {
		enqueue(t, c, "events", fmt.Sprint("e", i), "x")
	}
	want(c, "events", "e2=x e3=x e4=x")
	enqueue(t, c, "events", "e2", "again")
	want(c, "events", "e3=x e4=x e2=again")
	if err := c.Enqueue(t.Context(), "status", "big", make([]byte, 1001)); !errors.Is(err, ErrOutboxFull) {
		t.Fatal(err)
	}
	closed(t, c)
	c = open(t, dir, o)
	want(c, "status", "n1=2 p2=newer")
	want(c, "events", "e3=x e4=x e2=again")
	if s := c.Stats(); s.Dropped["events"] != 2 || s.Queued["events"] != 3 || s.Queued["status"] != 2 {
		t.Fatalf("%+v", s)
	}
	old, _, _ := c.Waiting("status", "n1")
	enqueue(t, c, "status", "n1", "3")
	if q, _, _ := c.Waiting("status", "n1"); q.Seq <= old.Seq {
		t.Fatalf("sequence %d after %d", q.Seq, old.Seq)
	}
	closed(t, c)
	if err := c.Enqueue(t.Context(), "status", "n1", nil); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// TestEnqueueSharesFlushes: those who come while a flush is on share the next one.
func TestEnqueueSharesFlushes(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, Options{})
	before := commits(t, dir)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() { enqueue(t, c, "status", fmt.Sprint(i), "v") })
	}
	all.Wait()
	if n := commits(t, dir) - before; n > 100 {
		t.Fatalf("%d commits for 200 values", n)
	}
	closed(t, c)
	c = open(t, dir, Options{})
	if s := c.Stats(); s.Queued["status"] != 200 {
		t.Fatalf("%+v", s)
	}
}

func TestDocumentsAndTokens(t *testing.T) {
	dir := t.TempDir()
	o := Options{GroupDelay: time.Hour, MaxDocuments: 10000}
	c := open(t, dir, o)
	body := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 3000) }
	for i := range 6 {
		c.PutDocument(node, fmt.Sprint("/doc", i), Document{ContentType: "t", ETag: fmt.Sprint(i), Body: body(i)})
		flush(t, c)
	}
	c.PutDocument(node, "/too-long", Document{Body: make([]byte, 10001)})
	c.PutDocument("other", "/doc5", Document{Body: []byte("other's"), Gzipped: true})
	c.ConfirmDocument("other", "/doc5")
	c.PutDocument(node, "/api/v1/secrets?as=Table", Document{Body: []byte("names of secrets")})
	c.PutToken("t", []byte("token"))
	c.PutToken("gone", []byte("token"))
	c.PutToken("gone", nil)
	for _, when := range []string{"pending", "written", "opened"} {
		switch when {
		case "written":
			flush(t, c)
		case "opened":
			closed(t, c)
			c = open(t, dir, o)
		}
		if s := c.Stats(); when != "pending" && (s.Documents > 5 || s.Documents < 4 || s.Tokens != 1) {
			t.Fatalf("%s: %+v", when, s)
		}
		d, ok, err := c.Document(node, "/doc5")
		if !ok || err != nil || !bytes.Equal(d.Body, body(5)) || d.ETag != "5" || d.ContentType != "t" || d.Read.IsZero() {
			t.Fatal(when, ok, err, d.ETag)
		}
		if d, ok, err := c.Document("other", "/doc5"); !ok || err != nil || string(d.Body) != "other's" || !d.Gzipped {
			t.Fatal(when, ok, err)
		}
		if _, ok, err := c.Document(node, "/too-long"); ok || err != nil {
			t.Fatal(when, ok, err)
		}
		if raw, ok, err := c.Token("t"); !ok || err != nil || string(raw) != "token" {
			t.Fatal(when, ok, err)
		}
		if _, ok, err := c.Token("gone"); ok || err != nil {
			t.Fatal(when, ok, err)
		}
	}
	if strings.Contains(string(files(t, dir)[fileName]), "names of secrets") {
		t.Fatal("a document about Secrets can be read in the file")
	}
	before := commits(t, dir)
	began := time.Now()
	c.ConfirmDocument(node, "/doc5")
	c.ConfirmDocument(node, "/never-was")
	flush(t, c)
	if d, ok, err := c.Document(node, "/doc5"); !ok || err != nil || d.Read.Before(began) || !bytes.Equal(d.Body, body(5)) || commits(t, dir) != before {
		t.Fatal("a document was not confirmed, or was written", ok, err, d.Read)
	}
	if _, ok, _ := c.Document(node, "/never-was"); ok {
		t.Fatal("a document came from nothing")
	}
	c.PutDocument(node, "/doc5", Document{})
	flush(t, c)
	if _, ok, _ := c.Document(node, "/doc5"); ok || commits(t, dir) == before {
		t.Fatal("a document was not removed")
	}
}

// TestTooFast: what comes faster than it may wait in memory makes a scope dirty. It stays a complete, older state, and whoever asked is told.
func TestTooFast(t *testing.T) {
	told := make(chan scope.Key, 1)
	var c *Cache
	o := Options{GroupDelay: time.Hour, MaxPending: 8 << 10, OnDirty: func(key scope.Key, why string) {
		if info, ok := c.Info(key); ok && info.Dirty == why { // it may call the cache
			told <- key
		}
	}}
	c = open(t, t.TempDir(), o)
	c.Replace(nodePods, podList, "1", []scope.Item{pod("a", 1)})
	for v := 2; v < 20; v++ {
		c.Apply(nodePods, fmt.Sprint(v), []scope.Event{put(pod(fmt.Sprint("p", v), v))})
	}
	if key := <-told; key != nodePods {
		t.Fatal(key)
	}
	info, _ := c.Info(nodePods)
	items, version, err := list(c, nodePods)
	if err != nil || info.Dirty == "" || version != info.Version || len(items) != info.Items || fmt.Sprint(len(items)) != version {
		t.Fatalf("%d objects at %s: %+v: %v", len(items), version, info, err)
	}
	if reason, message := c.Condition(); reason != ReasonCacheBehind {
		t.Fatal(reason, message)
	}
	if s := c.Stats(); s.PendingBytes > 8<<10 || s.Dirtied != 1 {
		t.Fatalf("%+v", s)
	}
	flush(t, c)
	c.Replace(nodePods, podList, "30", []scope.Item{pod("a", 30)})
	holds(t, c, nodePods, "30", pod("a", 30))
	if reason, message := c.Condition(); reason != ReasonCached {
		t.Fatal(reason, message)
	}
}

// TestEvicted fills the cache: what others read and what was not read for longest goes first; the node's pods and Secrets stay.
func TestEvicted(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1e9, 0)
	o := Options{GroupDelay: time.Hour, MaxBytes: 8 << 20, MaxDocuments: 1 << 20, Now: func() time.Time { return now }}
	c := open(t, dir, o)
	c.Replace(nodePods, podList, "1", []scope.Item{pod("a", 1)})
	c.Replace(secretKey("s"), podList, "1", []scope.Item{item("v1", "Secret", "s", 1, "bytes")})
	c.PutDocument(node, "/api", Document{Body: make([]byte, 500<<10)})
	flush(t, c)
	key := func(i int) scope.Key {
		return scope.Key{Identity: fmt.Sprint("pod", i), Resource: scope.Resource{Version: "v1", Resource: "configmaps"}}
	}
	for i := range 200 {
		now = now.Add(time.Hour)
		it := item("v1", "ConfigMap", fmt.Sprint("c", i), i+2, strings.Repeat(fmt.Sprint(i%10), 150<<10))
		c.Replace(key(i), podList, it.Version, []scope.Item{it})
		if i < 150 { // used all the time
			if _, ok, err := c.Get(key(0), "default", "c0"); !ok || err != nil {
				t.Fatal(i, ok, err)
			}
		}
		flush(t, c)
		if s := c.Stats(); s.FileBytes > o.MaxBytes {
			t.Fatalf("%+v", s)
		}
	}
	for i, there := range map[int]bool{0: false, 1: false, 120: false, 199: true, 198: true} {
		if _, ok := c.Info(key(i)); ok != there {
			t.Errorf("scope %d: there %v", i, ok)
		}
	}
	if _, ok, _ := c.Document(node, "/api"); ok {
		t.Error("the document is still there")
	}
	holds(t, c, nodePods, "1", pod("a", 1))
	if reason, message := c.Condition(); reason != ReasonCacheFull || !strings.Contains(message, "8 MiB") {
		t.Fatal(reason, message)
	}
	closed(t, c)
	consistent(t, dir)
	c = open(t, dir, o)
	holds(t, c, nodePods, "1", pod("a", 1))
	if _, ok := c.Info(secretKey("s")); !ok {
		t.Error("a Secret of the node was given up")
	}
}

// TestReaderHoldsUpNobody: a read that does not end holds up neither writers nor readers, and goes on seeing its own state.
func TestReaderHoldsUpNobody(t *testing.T) {
	c := open(t, t.TempDir(), Options{MaxBytes: 64 << 20})
	c.Replace(nodePods, podList, "1", []scope.Item{pod("a", 1), pod("b", 1)})
	flush(t, c)
	err := c.Read(nodePods, func(info scope.Info, all iter.Seq2[scope.Item, error]) error {
		for v := 2; v < 30; v++ {
			c.Replace(nodePods, podList, fmt.Sprint(v), []scope.Item{pod("a", v), item("v1", "Pod", "long", v, strings.Repeat("l", 1<<20))})
			if err := c.Flush(t.Context()); err != nil {
				return err
			}
		}
		n := 0
		for it, err := range all {
			if err != nil || it.Version != "1" {
				return fmt.Errorf("%s at %s: %w", it.Name, it.Version, err)
			}
			n++
		}
		if n != 2 || info.Version != "1" {
			return fmt.Errorf("%d objects at %s", n, info.Version)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if r := recover(); r != "mine" {
			t.Fatalf("a caller's panic became %v", r)
		}
		if _, _, err := list(c, nodePods); err != nil {
			t.Fatal(err)
		}
	}()
	c.Read(nodePods, func(scope.Info, iter.Seq2[scope.Item, error]) error { panic("mine") })
}

func TestNewest(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(2e9, 0)
	o := Options{GroupDelay: time.Hour, Now: func() time.Time { return now }}
	c := open(t, dir, o)
	c.Replace(nodePods, podList, "1", nil)
	closed(t, c)
	now = time.Unix(1e9, 0)
	c = open(t, dir, o)
	if got := c.Newest(); !got.Equal(time.Unix(2e9, 0)) {
		t.Fatal(got)
	}
	now = time.Unix(3e9, 0)
	if got := c.Newest(); !got.Equal(now) {
		t.Fatal(got)
	}
}

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrInUse) {
		t.Fatal(err)
	}
	if _, err := Open(dir+"/none", Options{}); err == nil {
		t.Fatal("a folder was made")
	}
	closed(t, c)
	closed(t, c)
	if err := c.Flush(t.Context()); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if _, _, err := c.Get(nodePods, "", ""); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	c.Replace(nodePods, podList, "1", nil)
}
