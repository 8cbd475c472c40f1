package cache

import (
	"context"
	"encoding/binary"
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
	"github.com/holdfast-dev/holdfast/edgeagent/seal"
)

// sample makes a closed cache with some of everything, and gives what is in it.
func sample(t testing.TB) (dir string, was model, keys []scope.Key) {
	t.Helper()
	dir, was = t.TempDir(), model{}
	c := open(t, dir, Options{GroupDelay: time.Hour})
	fill := func(key scope.Key, version int, items ...scope.Item) {
		was[key] = &modelScope{version, map[string]scope.Item{}}
		for _, it := range items {
			was[key].items[it.Name] = it
		}
		c.Replace(key, podList, fmt.Sprint(version), items)
		keys = append(keys, key)
		flush(t, c)
	}
	var all []scope.Item
	for i := range 40 {
		it := pod(fmt.Sprintf("p%02d", i), i+1)
		it.Raw = append(it.Raw, strings.Repeat("-", i*200)...)
		all = append(all, it)
	}
	fill(nodePods, 100, all...)
	fill(scope.Key{Identity: "a@b", Resource: pods, Namespace: "default"}, 90, all[:10]...)
	for i := range 12 {
		n := fmt.Sprintf("s%d", i)
		fill(secretKey(n), 101+i, item("v1", "Secret", n, 50+i, "secret bytes of "+n))
	}
	c.PutToken("t1", []byte("token one"))
	c.PutDocument(node, "/api", Document{ContentType: "application/json", ETag: "1", Body: []byte(strings.Repeat("discovery ", 700))})
	for i := range 5 {
		enqueue(t, c, "status", fmt.Sprint("k", i), fmt.Sprint("value ", i))
	}
	closed(t, c)
	return dir, was, keys
}

func enqueue(t testing.TB, c *Cache, bucket, key, value string) {
	t.Helper()
	if err := c.Enqueue(t.Context(), bucket, key, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

// allowed checks that whatever a spoiled cache still answers is right. It gives how many scopes it answered.
func allowed(t testing.TB, what string, c *Cache, was model, keys []scope.Key) (right int) {
	t.Helper()
	for _, key := range keys {
		s := was[key]
		got, version, err := list(c, key)
		switch {
		case err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnknown):
			t.Fatalf("%s: %v: %v", what, key, err)
		case err == nil && (version != fmt.Sprint(s.version) || !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(s.items)))):
			t.Fatalf("%s: %v at %s has %d objects of %d", what, key, version, len(got), len(s.items))
		case err == nil:
			right++
		}
		for n, it := range s.items {
			one, ok, oneErr := c.Get(key, "default", n)
			if oneErr == nil && (!ok || string(one.Raw) != string(it.Raw)) || err == nil && got[n] != string(it.Raw) {
				t.Fatalf("%s: %v: %s: found %v, its bytes differ", what, key, n, ok)
			}
			if oneErr != nil && !errors.Is(oneErr, ErrDamaged) && !errors.Is(oneErr, ErrUnknown) {
				t.Fatalf("%s: %v", what, oneErr)
			}
		}
	}
	for q, err := range c.Pending("status") {
		if err == nil && string(q.Value) != "value "+strings.TrimPrefix(q.Key, "k") {
			t.Fatalf("%s: the outbox holds %q for %s", what, q.Value, q.Key)
		}
	}
	if token, ok, err := c.Token("t1"); ok && err == nil && string(token) != "token one" {
		t.Fatalf("%s: token %q", what, token)
	}
	if d, ok, err := c.Document(node, "/api"); ok && err == nil && (len(d.Body) != 7000 || d.ETag != "1" || d.ContentType != "application/json") {
		t.Fatalf("%s: document of %d bytes", what, len(d.Body))
	}
	return right
}

// used is how much of a file was ever written.
func used(t testing.TB, file []byte) int {
	page := os.Getpagesize()
	pages := max(binary.NativeEndian.Uint64(file[16+40:]), binary.NativeEndian.Uint64(file[page+16+40:]))
	if pages < 10 || int(pages)*page > len(file) {
		t.Fatal(pages)
	}
	return int(pages) * page
}

// memoryDir makes a folder in memory if there is such a file system: thousands of flushes of a disk prove nothing here.
func memoryDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "hf")
	if err != nil {
		dir, err = os.MkdirTemp("", "hf")
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// spoiled opens a copy of a sample that was spoiled, checks what it answers, lists everything again, and checks that it is whole then.
func spoiled(t *testing.T, what string, files map[string][]byte, was model, keys []scope.Key) (right int) {
	t.Helper()
	dir := memoryDir(t)
	defer os.RemoveAll(dir)
	for n, raw := range files {
		if err := os.WriteFile(filepath.Join(dir, n), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{GroupDelay: time.Hour, Node: node}
	c, err := Open(dir, o)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer func() { c.Close() }()
	right = allowed(t, what, c, was, keys)
	for _, key := range keys {
		c.Replace(key, podList, fmt.Sprint(was[key].version), slices.Collect(maps.Values(was[key].items)))
	}
	for _, when := range []string{"listed again", "written again", "opened again"} {
		if err := differs(c, keys, was); err != nil {
			t.Fatalf("%s, %s: %v", what, when, err)
		}
		if err := c.Flush(context.Background()); err != nil {
			t.Fatalf("%s, %s: %v", what, when, err)
		}
		if when == "written again" {
			closed(t, c)
			if c, err = Open(dir, o); err != nil {
				t.Fatal(err)
			}
			if reason, message := c.Condition(); reason != ReasonCached {
				t.Fatalf("%s: not mended: %s %s", what, reason, message)
			}
		}
	}
	return right
}

func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, n := range []string{fileName, keyName} {
		raw, err := os.ReadFile(filepath.Join(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		all[n] = raw
	}
	return all
}

// TestBitFlips flips bits all over the file. Whatever is then read is right, or an error; most of it is right.
func TestBitFlips(t *testing.T) {
	dir, was, keys := sample(t)
	whole := files(t, dir)
	right, tried := 0, 0
	page := os.Getpagesize()
	var offsets []int
	used := used(t, whole[fileName])
	for at := 0; at < used; at += 3001 {
		offsets = append(offsets, at)
	}
	for p := range used / page { // heads of pages and of their first elements
		offsets = append(offsets, p*page+[]int{0, 8, 10, 12}[p%4], p*page+16+p%24)
	}
	for i, at := range offsets {
		raw := slices.Clone(whole[fileName])
		raw[at] ^= 1 << (i % 8)
		right += spoiled(t, fmt.Sprintf("bit %d of byte %d", i%8, at), map[string][]byte{fileName: raw, keyName: whole[keyName]}, was, keys)
		tried++
	}
	if all := tried * len(keys); right < all*8/10 {
		t.Fatalf("of %d scopes %d were still right", all, right)
	}
	t.Logf("%d flips: of %d scopes %d were still right", tried, tried*len(keys), right)
}

func TestTruncated(t *testing.T) {
	dir, was, keys := sample(t)
	whole := files(t, dir)
	for at := 0; at < used(t, whole[fileName]); at += 9967 {
		spoiled(t, fmt.Sprintf("cut at %d", at), map[string][]byte{fileName: whole[fileName][:at], keyName: whole[keyName]}, was, keys)
	}
}

// TestPagesLost overwrites single pages by zeroes, and by other pages of the file.
func TestPagesLost(t *testing.T) {
	dir, was, keys := sample(t)
	whole := files(t, dir)
	page := os.Getpagesize()
	for at := 0; at < used(t, whole[fileName]); at += 2 * page {
		for _, from := range []int{-1, (at + 3*page) % (len(whole[fileName]) / page * page)} {
			raw := slices.Clone(whole[fileName])
			if clear(raw[at : at+page]); from >= 0 {
				copy(raw[at:at+page], whole[fileName][from:])
			}
			spoiled(t, fmt.Sprintf("page %d replaced by %d", at/page, from/page), map[string][]byte{fileName: raw, keyName: whole[keyName]}, was, keys)
		}
	}
}

func TestForeignFile(t *testing.T) {
	_, was, keys := sample(t)
	for what, raw := range map[string]string{"empty": "", "text": "hello\n", "zeroes": strings.Repeat("\x00", 1<<16)} {
		spoiled(t, what, map[string][]byte{fileName: []byte(raw)}, was, keys)
	}
}

// TestKeyLost loses the sealing key: what was sealed is gone, the rest stays.
func TestKeyLost(t *testing.T) {
	dir, was, keys := sample(t)
	whole := files(t, dir)
	for what, key := range map[string][]byte{"another": []byte(strings.Repeat("k", seal.KeySize)), "cut": whole[keyName][:7], "gone": nil} {
		all := map[string][]byte{fileName: whole[fileName]}
		if key != nil {
			all[keyName] = key
		}
		if right := spoiled(t, "key "+what, all, was, keys); right != 2 {
			t.Fatalf("key %s: %d scopes were right", what, right)
		}
	}
}

// TestSecretsAreSealed looks for what must not be readable in the file.
func TestSecretsAreSealed(t *testing.T) {
	dir, _, _ := sample(t)
	whole := files(t, dir)
	for _, secret := range []string{"secret bytes of", "token one", "value 1"} {
		if strings.Contains(string(whole[fileName]), secret) {
			t.Errorf("%q can be read in the file", secret)
		}
	}
	if !strings.Contains(string(whole[fileName]), "pod p03 at") {
		t.Error("this test looks at the wrong file")
	}
	if info, err := os.Stat(filepath.Join(dir, keyName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
}
