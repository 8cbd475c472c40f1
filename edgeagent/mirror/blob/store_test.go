package blob

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

func TestPutAndRead(t *testing.T) {
	s := openSmall(t, t.TempDir(), Options{Log: logTo(t)})
	for seed, n := range []int{0, 1, 1023, 1024, 5000, 100_000} {
		data, d := content(byte(seed), n)
		wantNone(t, s, d)
		must(t, s.Put(d, data))
		wantBlob(t, s, d, data)
		must(t, s.Put(d, data)) // again is fine
	}
	data, _ := content(9, 3000)
	long := oci.SHA512.FromBytes(data)
	must(t, s.Put(long, data))
	wantBlob(t, s, long, data)
	wantUsage(t, s)
	if left := inFolder(t, s, partialFolder); left != nil {
		t.Errorf("left in partial: %v", left)
	}
}

func TestZeroDigest(t *testing.T) {
	s := openSmall(t, t.TempDir(), Options{})
	wantNone(t, s, oci.Digest{})
	if _, err := s.Writer(oci.Digest{}); err == nil {
		t.Error("the zero digest was given a writer")
	}
	if err := s.Verify(t.Context(), oci.Digest{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := s.Follow(t.Context(), oci.Digest{}, 0); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	s := openSmall(t, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrInUse) {
		t.Fatalf("got %v, want ErrInUse", err)
	}
	must(t, s.Close())
	must(t, s.Close())
	again, err := Open(dir, Options{})
	must(t, err)
	must(t, again.Close())
	if _, err := again.Writer(oci.SHA256.FromBytes(nil)); !errors.Is(err, ErrClosed) {
		t.Errorf("a writer after Close: %v", err)
	}
}

// TestHeal: what others left in the folder is neither served nor in the way.
func TestHeal(t *testing.T) {
	dir := t.TempDir()
	s := openSmall(t, dir, Options{})
	kept := put(t, s, 1, 2000)
	data, d := content(2, 2000)
	must(t, s.Close())
	for name, bytes := range map[string][]byte{
		"sha256/zz/hello": nil, "sha256/stray": nil, "sha256/" + d.Hex()[:2] + "/" + d.Hex() + ".tmp": data, "sha256/00/" + d.Hex(): data,
		"partial/no-digest": data, "partial/" + fileName(d): data, "partial/" + fileName(kept): data, "partial/" + fileName(kept) + ".json": []byte("{}"),
		"partial/sha256-x.json.tmp": nil, "scrub.json.tmp": nil, "quarantine/whatever": data,
	} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name), bytes, 0o600))
	}
	s = openSmall(t, dir, Options{Log: logTo(t)})
	if left := inFolder(t, s, partialFolder); left != nil {
		t.Errorf("left in partial: %v", left)
	}
	n := 0
	for info, err := range s.All(t.Context(), oci.Digest{}) {
		must(t, err)
		if n++; info.Digest != kept {
			t.Errorf("%s is served", info.Digest)
		}
	}
	wantNone(t, s, d)
	if u := s.Usage(); n != 1 || u.Bytes != 4000 || u.Quarantine != 2000 {
		t.Errorf("%d blobs, %+v", n, u)
	}
	must(t, s.Put(d, data))
	wantBlob(t, s, d, data)
}

func TestAll(t *testing.T) {
	s := openSmall(t, t.TempDir(), Options{})
	want := map[oci.Digest]bool{}
	for seed := range 40 {
		want[put(t, s, byte(seed), seed)] = true
	}
	data, _ := content(99, 10)
	long := oci.SHA512.FromBytes(data)
	must(t, s.Put(long, data))
	want[long] = true
	for after, n := (oci.Digest{}), len(want); n > 0; n-- {
		seen := 0
		first := oci.Digest{}
		for info, err := range s.All(t.Context(), after) {
			must(t, err)
			if seen++; seen == 1 {
				first = info.Digest
			}
			if !want[info.Digest] || info.Digest.String() <= after.String() {
				t.Fatalf("%s after %s", info.Digest, after)
			}
		}
		if seen != n {
			t.Fatalf("%d blobs after %s, want %d", seen, after, n)
		}
		after = first
	}
	for range s.All(t.Context(), oci.Digest{}) {
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range s.All(ctx, oci.Digest{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}

// TestOpenFails: a folder that cannot be is an error that names it.
func TestOpenFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, nil, 0o600))
	if s, err := Open(path, Options{}); err == nil {
		s.Close()
		t.Error("a file was opened as a folder")
	}
}
