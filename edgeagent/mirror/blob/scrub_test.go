package blob

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

func damage(t testing.TB, s *Store, d oci.Digest) {
	t.Helper()
	f, err := os.OpenFile(s.path(d), os.O_RDWR, 0)
	must(t, err)
	one := make([]byte, 1)
	_, err = f.ReadAt(one, 100)
	one[0] ^= 1
	_, writeErr := f.WriteAt(one, 100)
	must(t, errors.Join(err, writeErr, f.Close()))
}

func TestVerify(t *testing.T) {
	s := openSmall(t, t.TempDir(), Options{Log: logTo(t)})
	fine, bad := put(t, s, 1, 300_000), put(t, s, 2, 1000)
	damage(t, s, bad)
	must(t, s.Verify(t.Context(), fine))
	var corrupt *CorruptError
	if err := s.Verify(t.Context(), bad); !errors.As(err, &corrupt) || corrupt.Digest != bad || corrupt.Got.IsZero() {
		t.Errorf("got %v, want a CorruptError", err)
	}
	wantNone(t, s, bad)
	if err := s.Verify(t.Context(), bad); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	wantUsage(t, s)
	put(t, s, 2, 1000)
	must(t, s.Verify(t.Context(), bad))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Verify(ctx, fine); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestCondemnedOnce: one that was replaced while it was being read is not taken away again.
func TestCondemnedOnce(t *testing.T) {
	s := openSmall(t, t.TempDir(), Options{})
	d := put(t, s, 1, 1000)
	old, err := s.Open(d)
	must(t, err)
	defer old.Close()
	damage(t, s, d)
	if err := s.Verify(t.Context(), d); err == nil {
		t.Fatal("not noticed")
	}
	put(t, s, 1, 1000)
	var corrupt *CorruptError
	if err := s.condemn(old.f, d, oci.Digest{}, nil); !errors.As(err, &corrupt) {
		t.Errorf("got %v", err)
	}
	data, _ := content(1, 1000)
	wantBlob(t, s, d, data)
}

// TestScrub: at its pace, it finds what is damaged, begins again when it is time, and another process goes on where this one stopped.
func TestScrub(t *testing.T) {
	dir := t.TempDir()
	s := openSmall(t, dir, Options{})
	digests := map[oci.Digest]bool{}
	for seed := range byte(10) {
		digests[put(t, s, seed, 100_000)] = true
	}
	var bad oci.Digest
	for info, err := range s.All(t.Context(), oci.Digest{}) {
		must(t, err)
		bad = info.Digest // the last in order
	}
	damage(t, s, bad)
	must(t, s.Close())
	run := func(during time.Duration) (found []oci.Digest, at time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			s, err := open(dir, Options{}, small(dir))
			must(t, err)
			begun := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), during)
			defer cancel()
			must(t, s.Scrub(ctx, ScrubOptions{BytesPerSecond: 10_000, Every: time.Hour, Corrupt: func(_ context.Context, e *CorruptError) {
				found, at = append(found, e.Digest), time.Since(begun)
			}}))
			must(t, s.Close())
		})
		return found, at
	}
	// A million bytes at 10,000 a second are 100 s.
	if found, _ := run(55 * time.Second); found != nil {
		t.Errorf("found %v before it can have been read", found)
	}
	found, at := run(time.Minute)
	if len(found) != 1 || found[0] != bad || at > 55*time.Second || at < 30*time.Second {
		t.Errorf("found %v after %v; want the last after what was left of 100 s", found, at)
	}
	if aside := inFolder(t, s, quarantineFolder); len(aside)+len(inFolder(t, s, partialFolder)) > 1 {
		t.Errorf("in quarantine: %v", aside)
	}
	// The pass is over: another begins only after an hour, whatever was restarted meanwhile.
	var second oci.Digest
	for d := range digests {
		if d != bad {
			second = d
		}
	}
	damage(t, s, second)
	if found, at := run(2 * time.Hour); len(found) != 1 || found[0] != second || at < 30*time.Minute || at > 63*time.Minute {
		t.Errorf("found %v after %v, want %s after about an hour", found, at, second)
	}
}

// TestScrubGoesOnWithinABlob: also one that is larger than a process lives.
func TestScrubGoesOnWithinABlob(t *testing.T) {
	dir := t.TempDir()
	s := openSmall(t, dir, Options{})
	d := put(t, s, 1, 1_000_000)
	damage(t, s, d)
	must(t, s.Close())
	for restarts := 0; ; restarts++ {
		if restarts > 12 {
			t.Fatal("it never comes to the end")
		}
		found := false
		synctest.Test(t, func(t *testing.T) {
			s, err := open(dir, Options{}, small(dir))
			must(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			must(t, s.Scrub(ctx, ScrubOptions{BytesPerSecond: 10_000, Every: time.Hour, Corrupt: func(context.Context, *CorruptError) { found = true }}))
			must(t, s.Close())
		})
		if found {
			if restarts < 2 {
				t.Errorf("it was faster than its pace: %d restarts", restarts)
			}
			return
		}
	}
}

// TestScrubFileDamaged: then a pass begins anew.
func TestScrubFileDamaged(t *testing.T) {
	for _, text := range []string{"", "{", `{"after":"../x"}`, `{"offset":-5}`, `{"current":"sha256:00","offset":1}`} {
		dir := t.TempDir()
		s := openSmall(t, dir, Options{})
		d := put(t, s, 1, 1000)
		damage(t, s, d)
		must(t, os.WriteFile(filepath.Join(dir, scrubName), []byte(text), 0o600))
		ctx, cancel := context.WithCancel(t.Context())
		found := false
		must(t, s.Scrub(ctx, ScrubOptions{Corrupt: func(context.Context, *CorruptError) { found = true; cancel() }}))
		if cancel(); !found {
			t.Errorf("%q: nothing was found", text)
		}
	}
}
