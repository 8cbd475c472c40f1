package source_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/source"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

func TestFetchOnlyWhatIsNew(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	s := u.serve(gitserver.Config{Plain: true})
	cfg := config(t, s)
	c := newClient(t, cfg)
	u.commit("main", 100)
	first, all := follow(t, c)
	u.commit("main", 1)
	second, few := follow(t, c)
	if few.Objects == 0 || few.Objects > 5 || all.Objects < 300 {
		t.Errorf("first %+v, then %+v", all, few)
	}
	intact(t, cfg.Dir, second)

	notes := u.note()
	third, few := follow(t, c)
	if third.Notes != notes || few.Objects != 3 {
		t.Errorf("a note cost %+v", few)
	}
	intact(t, cfg.Dir, third)

	u.git("", "update-ref", "refs/heads/main", first.Tip)
	s.Reset()
	back, none := follow(t, c)
	if back.Tip != first.Tip || none.Objects != 0 || len(s.Requests()) != 1 {
		t.Errorf("going back to a commit that is there: %+v, %v", none, s.Requests())
	}
	intact(t, cfg.Dir, back)

	u.git("", "update-ref", "-d", source.NotesRef)
	gone, _ := follow(t, c)
	if gone.Notes != "" {
		t.Errorf("notes that are gone: %v", gone)
	}
	intact(t, cfg.Dir, gone)
}

// TestForcePush: a rewritten branch is fetched like any other; whether it is believed is for the verdict.
func TestForcePush(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.commit("main", 50)
	s := u.serve(gitserver.Config{})
	cfg := config(t, s)
	c := newClient(t, cfg)
	follow(t, c)
	u.git("", "update-ref", "refs/heads/main", u.git("", "rev-parse", "main~10"))
	u.commit("main", 2)
	refs, done := follow(t, c)
	if done.Objects > 15 {
		t.Errorf("a rewrite of the last commits transferred %+v", done)
	}
	intact(t, cfg.Dir, refs)
	u.git("", "update-ref", "-d", "refs/heads/main")
	u.commit("main", 2) // no common history
	refs, _ = follow(t, c)
	intact(t, cfg.Dir, refs)
}

func TestManyFetchesStayFewPacks(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	s := u.serve(gitserver.Config{Plain: true})
	cfg := config(t, s)
	c := newClient(t, cfg)
	var refs source.Refs
	joined := false
	for range 40 {
		u.commit("main", 1)
		var err error
		if refs, err = c.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		done, err := source.FetchHere(t.Context(), cfg, refs)
		if err != nil {
			t.Fatal(err)
		}
		joined = joined || done.Joined
	}
	packs, err := filepath.Glob(filepath.Join(cfg.Dir, "objects/pack/*"))
	if err != nil || len(packs) > 2*20 || !joined {
		t.Fatalf("%d files after 40 fetches, joined: %v, %v", len(packs), joined, err)
	}
	intact(t, cfg.Dir, refs)
	runGit(t, cfg.Dir, "", "--git-dir", cfg.Dir, "fsck", "--full", "--strict")
}

// TestHeals damages the clone in every way there is a name for: the next fetch mends it and says so.
func TestHeals(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.commit("main", 20)
	u.note()
	s := u.serve(gitserver.Config{Plain: true})
	one := func(pattern string) func(t *testing.T, dir string) string {
		return func(t *testing.T, dir string) string {
			t.Helper()
			list, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil || len(list) == 0 {
				t.Fatalf("%s: %v, %v", pattern, list, err)
			}
			if err := os.Chmod(list[0], 0o600); err != nil {
				t.Fatal(err)
			}
			return list[0]
		}
	}
	pack, idx := one("objects/pack/*.pack"), one("objects/pack/*.idx")
	write := func(t *testing.T, name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, damage := range map[string]func(t *testing.T, dir string){
		"pack cut short": func(t *testing.T, dir string) {
			if err := os.Truncate(pack(t, dir), 1000); err != nil {
				t.Fatal(err)
			}
		},
		"pack overwritten with zeros": func(t *testing.T, dir string) {
			name := pack(t, dir)
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(make([]byte, info.Size()-52), 32); err != nil { // header and checksum stay
				t.Fatal(err)
			}
		},
		"pack missing":     func(t *testing.T, dir string) { remove(t, pack(t, dir)) },
		"index is garbage": func(t *testing.T, dir string) { write(t, idx(t, dir), strings.Repeat("garbage", 500)) },
		"index is empty":   func(t *testing.T, dir string) { write(t, idx(t, dir), "") },
		"index missing":    func(t *testing.T, dir string) { remove(t, idx(t, dir)) },
		"HEAD is garbage":  func(t *testing.T, dir string) { write(t, filepath.Join(dir, "HEAD"), "\x00\x00") },
		"HEAD is missing":  func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "HEAD")) },
		"a ref is garbage": func(t *testing.T, dir string) { write(t, filepath.Join(dir, "refs/heads/main"), "zz") },
		"a ref is empty":   func(t *testing.T, dir string) { write(t, filepath.Join(dir, "refs/heads/main"), "") },
		"objects are gone": func(t *testing.T, dir string) { removeAll(t, filepath.Join(dir, "objects")) },
		"a ref names no commit of it": func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "refs/heads/main"), strings.Repeat("ab", 20))
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, s)
			refs, err := newClient(t, cfg).Poll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for round := range 2 { // twice: only one damaged clone is kept
				if _, err := source.FetchHere(t.Context(), cfg, refs); err != nil {
					t.Fatal(err)
				}
				damage(t, cfg.Dir)
				done, err := source.FetchHere(t.Context(), cfg, refs)
				if err != nil || done.Repaired == "" {
					t.Fatalf("round %d: %+v, %v", round, done, err)
				}
				intact(t, cfg.Dir, refs)
			}
			list, err := os.ReadDir(filepath.Dir(cfg.Dir))
			if err != nil || len(list) != 3 {
				t.Fatalf("beside the clone: %v, %v; want the clone, its lock and one damaged clone", list, err)
			}
		})
	}
}

// TestDamagedAndServerDown: without a server nothing can be mended, but it is after that.
func TestDamagedAndServerDown(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	s := u.serve(gitserver.Config{Plain: true})
	cfg := config(t, s)
	c := newClient(t, cfg)
	refs, _ := follow(t, c)
	removeAll(t, filepath.Join(cfg.Dir, "objects"))
	s.Set(gitserver.Answer(500))
	_, err := c.Fetch(t.Context(), refs)
	wantReason(t, err, condition.ReasonUnreachable)
	s.Set(gitserver.Healthy)
	follow(t, c)
	intact(t, cfg.Dir, refs)
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func removeAll(t *testing.T, name string) {
	t.Helper()
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
}

// TestKilledInTheMiddle ends the fetching child with SIGKILL while the pack arrives, again and again: refs stay, nothing
// piles up, and the next fetch succeeds.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	s := u.serve(gitserver.Config{Plain: true})
	cfg := config(t, s)
	before, _ := follow(t, newClient(t, cfg))
	u.commit("main", 300)
	want, err := newClient(t, cfg).Poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, after := range []int64{0, 20, 2000, 20_000} {
		ctx, kill := context.WithCancel(t.Context())
		s.Set(gitserver.StallAfter(after, kill))
		_, err := newClient(t, cfg).Fetch(ctx, want)
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("killed after %d bytes: %v", after, err)
		}
		intact(t, cfg.Dir, before)
	}
	left, err := filepath.Glob(filepath.Join(cfg.Dir, "objects/pack/tmp_*"))
	if err != nil || len(left) > 1 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
	s.Set(gitserver.Healthy)
	if _, err := newClient(t, cfg).Fetch(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	intact(t, cfg.Dir, want)
	if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "objects/pack/tmp_*")); len(left) != 0 {
		t.Fatalf("left behind after a good fetch: %v", left)
	}
}

// TestKilledBeforeTheRefsMoved: the pack is in place, the refs are not. Nothing is transferred again.
func TestKilledBeforeTheRefsMoved(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	s := u.serve(gitserver.Config{Plain: true})
	cfg := config(t, s)
	c := newClient(t, cfg)
	before, _ := follow(t, c)
	u.commit("main", 2)
	want, _ := follow(t, c)
	if err := os.WriteFile(filepath.Join(cfg.Dir, "refs/heads/main"), []byte(before.Tip+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.Dir, "refs/heads/.tmp-main"), []byte(want.Tip[:7]), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Reset()
	if done, err := c.Fetch(t.Context(), want); err != nil || done.Objects != 0 || len(s.Requests()) != 0 {
		t.Fatalf("%+v, %v, %v", done, err, s.Requests())
	}
	intact(t, cfg.Dir, want)
}

func TestOneFetchAtATime(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	s := u.serve(gitserver.Config{Plain: true})
	cfg := config(t, s)
	if err := os.MkdirAll(filepath.Dir(cfg.Dir), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(cfg.Dir + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, cfg)
	refs, err := c.Poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Fetch(t.Context(), refs); err == nil || !strings.Contains(err.Error(), "another process is fetching") {
		t.Fatalf("got %v", err)
	}
	f.Close() // the file stays: a lock left behind
	follow(t, c)
	intact(t, cfg.Dir, refs)
}

// blob commits a file of n bytes that cannot be compressed to less than three quarters.
func blob(u *upstream, n int) {
	u.tb.Helper()
	raw := make([]byte, n*3/4)
	_, _ = rand.NewChaCha8([32]byte{byte(u.n)}).Read(raw)
	text := base64.StdEncoding.EncodeToString(raw)
	u.git(fmt.Sprintf("commit refs/heads/main\ncommitter t <t@example.com> 1700001000 +0000\ndata 1\nb\nfrom refs/heads/main^0\nM 100644 inline big\ndata %d\n%s\n", len(text), text), "fast-import", "--quiet", "--force")
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*source.Limits)
		build  func(*upstream)
	}{
		"an object over the bound":    {func(l *source.Limits) { l.ObjectBytes = 1 << 20 }, func(u *upstream) { blob(u, 2<<20) }},
		"a repository over the bound": {func(l *source.Limits) { l.RepoBytes = 1 << 20 }, func(u *upstream) { blob(u, 2<<20) }},
		"too many objects":            {func(l *source.Limits) { l.Objects = 100 }, func(u *upstream) { u.commit("main", 100) }},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t)
			cfg := config(t, u.serve(gitserver.Config{Plain: true}))
			c.change(&cfg.Limits)
			client := newClient(t, cfg)
			before, _ := follow(t, client)
			c.build(u)
			refs, err := client.Poll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.Fetch(t.Context(), refs)
			wantReason(t, err, condition.ReasonTooLarge)
			intact(t, cfg.Dir, before)
			if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "objects/pack/tmp_*")); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestOutgrown: unreachable history that a rewritten branch left behind does not keep new history out.
func TestOutgrown(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	cfg := config(t, u.serve(gitserver.Config{Plain: true}))
	cfg.Limits.RepoBytes = 2 << 20
	c := newClient(t, cfg)
	base := u.git("", "rev-parse", "main")
	blob(u, 2<<20)
	follow(t, c)
	u.git("", "update-ref", "refs/heads/main", base)
	u.commit("main", 1)
	blob(u, 2<<20-10)
	refs, done := follow(t, c)
	if done.Repaired == "" {
		t.Errorf("%+v", done)
	}
	intact(t, cfg.Dir, refs)
	list, err := os.ReadDir(filepath.Dir(cfg.Dir))
	if err != nil || len(list) != 2 {
		t.Errorf("beside the clone: %v, %v", list, err)
	}
}

// TestStandstill: a transfer that stops in the middle ends after the idle time-out, long before the fetch's.
func TestStandstill(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	s := u.serve(gitserver.Config{Plain: true})
	cfg := config(t, s)
	cfg.Limits.IdleTimeout, cfg.Limits.FetchTimeout = 500*time.Millisecond, time.Minute
	u.commit("main", 200)
	c := newClient(t, cfg)
	refs, err := c.Poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Set(gitserver.StallAfter(10_000, nil))
	start := time.Now()
	_, err = c.Fetch(t.Context(), refs)
	wantReason(t, err, condition.ReasonUnreachable)
	if took := time.Since(start); took > 50*time.Second || !strings.Contains(err.Error(), "stood still") {
		t.Fatalf("after %s: %v", took, err)
	}
	s.Set(gitserver.Slow(2000, time.Millisecond)) // slow is not standing still
	cfg.Limits.IdleTimeout = 30 * time.Second     // a busy machine stands still for longer than the server
	follow(t, newClient(t, cfg))
	intact(t, cfg.Dir, refs)
}
