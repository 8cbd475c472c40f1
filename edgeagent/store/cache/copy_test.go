package cache

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// copied is sample with a copy of it. What waited for the link then is replayed since.
func copied(t *testing.T) (whole map[string][]byte, was model, keys []scope.Key) {
	t.Helper()
	dir, was, keys := sample(t)
	c := open(t, dir, Options{GroupDelay: time.Hour})
	err := c.Copy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for q, err := range c.Pending("status") {
		if err != nil {
			t.Fatal(err)
		}
		c.Done("status", q.Key, q.Seq)
	}
	enqueue(t, c, "status", "late", "value")
	closed(t, c)
	whole = files(t, dir)
	if whole[copyName], err = os.ReadFile(filepath.Join(dir, copyName)); err != nil {
		t.Fatal(err)
	}
	return whole, was, keys
}

// TestCopyMends: wherever a file is cut, all that was copied is there again, and nothing is replayed twice.
func TestCopyMends(t *testing.T) {
	whole, was, keys := copied(t)
	for at := 0; at < used(t, whole[fileName]); at += 29947 {
		dir := t.TempDir()
		all := maps.Clone(whole)
		all[fileName] = whole[fileName][:at]
		for name, raw := range all {
			if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c := open(t, dir, Options{})
		if err := differs(c, keys, was); err != nil {
			t.Errorf("cut at %d: %v", at, err)
		}
		for i := range 5 {
			if q, ok, err := c.Waiting("status", fmt.Sprint("k", i)); ok || err != nil {
				t.Errorf("cut at %d: what was replayed waits again: %+v %v", at, q, err)
			}
		}
		closed(t, c)
	}
}

// TestCopyOnlyWhenSomethingChanged: an idle node writes nothing, and what is not to be seen any more is in no copy.
func TestCopyOnlyWhenSomethingChanged(t *testing.T) {
	dir, _, _ := sample(t)
	c := open(t, dir, Options{})
	path := filepath.Join(dir, copyName)
	if err := c.Copy(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Copy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again, err := os.Stat(path); err != nil || !os.SameFile(first, again) {
		t.Errorf("a second copy was written although nothing changed: %v", err)
	}
	c.PutToken("t2", []byte("token two"))
	flush(t, c)
	if err := c.Copy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again, err := os.Stat(path); err != nil || os.SameFile(first, again) {
		t.Errorf("a change was not copied: %v", err)
	}
	c.Drop("a@b", pods, "default")
	closed(t, c)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the copy still holds what was dropped: %v", err)
	}
}
