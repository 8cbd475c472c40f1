package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// TestSlowDisk stops a write in its middle: nobody else waits, and memory stays bounded.
func TestSlowDisk(t *testing.T) {
	at, on := make(chan bool), make(chan bool)
	first := true
	c := open(t, t.TempDir(), Options{MaxPending: 8 << 10, GroupDelay: time.Millisecond, Step: func(point string) {
		if point == "committing" && first {
			first = false
			at <- true
			<-on
		}
	}})
	c.Replace(nodePods, podList, "1", []scope.Item{pod("a", 1)})
	<-at
	holds(t, c, nodePods, "1", pod("a", 1))
	c.Apply(nodePods, "2", []scope.Event{put(pod("b", 2))})
	holds(t, c, nodePods, "2", pod("a", 1), pod("b", 2))
	for v := 3; v < 30; v++ {
		c.Apply(nodePods, fmt.Sprint(v), []scope.Event{put(pod(fmt.Sprint("p", v), v))})
	}
	info, _ := c.Info(nodePods)
	items, version, err := list(c, nodePods)
	if err != nil || info.Dirty == "" || version != info.Version || fmt.Sprint(len(items)) != version || c.Stats().PendingBytes > 8<<10 {
		t.Fatalf("%d objects at %s, %+v: %v", len(items), version, c.Stats(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Enqueue(ctx, "status", "n1", []byte("v")); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	on <- true
	flush(t, c)
	holds(t, c, nodePods, version, slices.Collect(func(yield func(scope.Item) bool) {
		for i := range len(items) {
			n := []string{"a", "b"}
			if i < 2 && !yield(pod(n[i], i+1)) || i >= 2 && !yield(pod(fmt.Sprint("p", i+1), i+1)) {
				return
			}
		}
	})...)
}

// TestSpoiledWhileOpen spoils each page of a file that is in use. What is read is right or an error; once everything was listed again it
// is right, also after the next start.
func TestSpoiledWhileOpen(t *testing.T) {
	dir, was, keys := sample(t)
	whole := files(t, dir)
	page := os.Getpagesize()
	healed := 0
	for p := 2; p < used(t, whole[fileName])/page; p += 3 {
		what := fmt.Sprint("page ", p)
		dir := memoryDir(t)
		defer os.RemoveAll(dir)
		for n, raw := range whole {
			if err := os.WriteFile(filepath.Join(dir, n), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c := open(t, dir, Options{GroupDelay: time.Hour})
		f, err := os.OpenFile(filepath.Join(dir, fileName), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(bytes.Repeat([]byte{byte(p)}, page), int64(p*page)); err != nil {
			t.Fatal(err)
		}
		f.Close()
		allowed(t, what, c, was, keys)
		for range 3 { // the first write may find the damage
			for _, key := range keys {
				c.Replace(key, podList, fmt.Sprint(was[key].version), slices.Collect(maps.Values(was[key].items)))
			}
			if c.Apply(nodePods, "101", []scope.Event{put(pod("p00", 101)), put(pod("p39", 101))}); c.Flush(t.Context()) == nil {
				break
			}
		}
		now := was.clone()
		now[nodePods].version = 101
		now[nodePods].items["p00"], now[nodePods].items["p39"] = pod("p00", 101), pod("p39", 101)
		if err := differs(c, keys, now); err != nil {
			reason, message := c.Condition()
			t.Fatalf("%s: %v (%s: %s)", what, err, reason, message)
		}
		if reason, _ := c.Condition(); reason == ReasonCacheRebuilt {
			healed++
		}
		closed(t, c)
		c = open(t, dir, Options{GroupDelay: time.Hour})
		if err := differs(c, keys, now); err != nil {
			t.Fatalf("%s, opened again: %v", what, err)
		}
		closed(t, c)
	}
	if healed == 0 {
		t.Fatal("no page made the file be rebuilt while it was open")
	}
}

// TestConditionIsSteady: the sentence does not name another scope each time.
func TestConditionIsSteady(t *testing.T) {
	c := open(t, t.TempDir(), Options{})
	for i := range 20 {
		c.Replace(secretKey(fmt.Sprint(i)), podList, "1", nil)
		c.Dirty(secretKey(fmt.Sprint(i)), fmt.Sprint("gap ", i))
	}
	_, first := c.Condition()
	for range 50 {
		if _, again := c.Condition(); again != first || !strings.Contains(again, "secrets") {
			t.Fatal(first, again)
		}
	}
}
