package source_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/source"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

// workTree makes an ordinary repository with three commits, a branch, and two kinds of tag.
func workTree(t *testing.T) (dir string, git func(args ...string) string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "work")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	git = func(args ...string) string { return runGit(t, dir, "", args...) }
	git("init", "-q", "-b", "main")
	for i := range 3 {
		write(t, filepath.Join(dir, "fleet.cue"), fmt.Sprintf("x: %d", i))
		write(t, filepath.Join(dir, "pools/a/pool.cue"), "y: 1")
		git("add", ".")
		git("commit", "-qm", fmt.Sprint("change ", i))
	}
	git("branch", "side", "HEAD~1")
	git("tag", "light", "HEAD~2")
	git("tag", "-a", "-m", "x", "heavy", "HEAD~1")
	return dir, git
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openWorkTree(t *testing.T, dir string, env map[string]string) *source.Repo {
	t.Helper()
	r, err := source.OpenWorkTree(dir, func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestResolve(t *testing.T) {
	dir, git := workTree(t)
	check := func(t *testing.T, r *source.Repo) {
		t.Helper()
		for _, rev := range []string{"HEAD", "main", "side", "light", "heavy", "HEAD~1", "HEAD^", "main~2", "refs/heads/side", git("rev-parse", "HEAD"), git("rev-parse", "--short=8", "HEAD~1")} {
			got, err := r.Resolve(rev)
			if want := git("rev-parse", rev+"^{commit}"); err != nil || got != want {
				t.Errorf("%s: %s, %v; want %s", rev, got, err, want)
			}
		}
		for _, rev := range []string{"nope", "HEAD~9", "", git("rev-parse", "HEAD^{tree}"), strings.Repeat("12", 20)} {
			if got, err := r.Resolve(rev); err == nil {
				t.Errorf("%q resolves to %s", rev, got)
			}
		}
	}
	t.Run("loose", func(t *testing.T) { check(t, openWorkTree(t, dir, nil)) })
	t.Run("below the top", func(t *testing.T) {
		r := openWorkTree(t, filepath.Join(dir, "pools/a"), nil)
		if r.Top() != dir {
			t.Errorf("the top is %s, want %s", r.Top(), dir)
		}
		check(t, r)
	})
	t.Run("packed", func(t *testing.T) {
		git("gc", "-q")
		check(t, openWorkTree(t, dir, nil))
	})
	t.Run("linked work tree", func(t *testing.T) {
		linked := filepath.Join(t.TempDir(), "linked")
		git("worktree", "add", "-q", "--detach", linked, "HEAD~1")
		r := openWorkTree(t, linked, nil)
		got, err := r.Resolve("HEAD")
		if want := git("rev-parse", "HEAD~1"); err != nil || got != want || r.Top() != linked {
			t.Fatalf("HEAD is %s in %s, %v; want %s", got, r.Top(), err, want)
		}
		if got, err := r.Resolve("main"); err != nil || got != git("rev-parse", "main") {
			t.Fatalf("main is %s, %v", got, err)
		}
	})
	t.Run("bare, with alternates", func(t *testing.T) {
		bare := filepath.Join(t.TempDir(), "bare.git")
		git("clone", "-q", "--bare", "--shared", dir, bare)
		r := openWorkTree(t, bare, nil)
		if r.Top() != "" {
			t.Errorf("a bare repository has the top %s", r.Top())
		}
		check(t, r)
	})
}

func TestNoRepository(t *testing.T) {
	_, err := source.OpenWorkTree(t.TempDir(), nil)
	if err == nil || !strings.Contains(err.Error(), "not in a Git repository") {
		t.Fatalf("got %v", err)
	}
}

// TestQuarantine: a pre-receive hook sees the objects that are being pushed.
func TestQuarantine(t *testing.T) {
	dir, git := workTree(t)
	bare := filepath.Join(t.TempDir(), "bare.git")
	git("clone", "-q", "--bare", dir, bare)
	quarantine := filepath.Join(bare, "objects", "incoming-x")
	if err := os.MkdirAll(filepath.Join(quarantine, "pack"), 0o755); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"GIT_DIR": bare, "GIT_OBJECT_DIRECTORY": quarantine, "GIT_ALTERNATE_OBJECT_DIRECTORIES": filepath.Join(bare, "objects")}
	t.Setenv("GIT_OBJECT_DIRECTORY", quarantine)
	t.Setenv("GIT_ALTERNATE_OBJECT_DIRECTORIES", env["GIT_ALTERNATE_OBJECT_DIRECTORIES"])
	pushed := runGit(t, bare, "", "--git-dir", bare, "commit-tree", "-m", "pushed", "-p", "main", "main^{tree}")
	os.Unsetenv("GIT_OBJECT_DIRECTORY")
	os.Unsetenv("GIT_ALTERNATE_OBJECT_DIRECTORIES")
	r := openWorkTree(t, bare, env)
	if got, err := r.Resolve(pushed); err != nil || got != pushed {
		t.Fatalf("%s, %v", got, err)
	}
	if got, err := r.Resolve(pushed + "~1"); err != nil || got != git("rev-parse", "main") {
		t.Fatalf("%s, %v", got, err)
	}
	if _, err := openWorkTree(t, bare, nil).Resolve(pushed); err == nil {
		t.Fatal("outside of the hook the commit is not there")
	}
	if _, err := openWorkTree(t, dir, env).Resolve(pushed); err == nil {
		t.Fatal("the hook's variables are about another repository")
	}
}

func TestShallow(t *testing.T) {
	dir, git := workTree(t)
	shallow := filepath.Join(t.TempDir(), "shallow")
	git("clone", "-q", "--depth=1", "file://"+dir, shallow)
	_, _, err := openWorkTree(t, shallow, nil).Object(git("rev-parse", "HEAD~1"))
	if !errors.Is(err, source.ErrNotFound) || !strings.Contains(err.Error(), "--unshallow") {
		t.Fatalf("got %v", err)
	}
}

func TestFiles(t *testing.T) {
	u := newUpstream(t)
	tip := u.git("", "rev-parse", "main")
	sub := "160000 commit " + strings.Repeat("1", 40) + "\tsub\n"
	link := "120000 blob " + u.git("/etc/passwd", "hash-object", "-w", "--stdin") + "\tlink\n"
	tree := u.git(u.git("", "ls-tree", "main")+"\n"+sub+link, "mktree", "--missing")
	u.git("", "update-ref", "refs/heads/main", u.git("", "commit-tree", "-m", "x", "-p", tip, tree))
	cfg := config(t, u.serve(gitserver.Config{Plain: true}))
	refs, _ := follow(t, newClient(t, cfg))
	r, err := source.Open(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var paths []string
	files, err := r.Files(refs.Tip, func(p string) bool { return p != "pools/p1/" }, source.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		paths = append(paths, f.Path)
		if want := u.git("", "show", refs.Tip+":"+f.Path); strings.TrimSuffix(string(f.Data), "\n") != want || f.Hash != u.git("", "rev-parse", refs.Tip+":"+f.Path) {
			t.Errorf("%s has other bytes", f.Path)
		}
	}
	if got := strings.Join(paths, " "); got != "fleet.cue pools/p2/pool.cue pools/p3/pool.cue" {
		t.Errorf("got %s", got)
	}
	for name, lim := range map[string]source.Limits{"files": {Files: 2}, "bytes": {ExportBytes: 100}, "depth": {Depth: 1}} {
		_, err := r.Files(refs.Tip, func(string) bool { return true }, lim)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		wantReason(t, err, condition.ReasonTooLarge)
	}
	e, ok, err := r.At(refs.Tip, "pools/p2/pool.cue")
	if err != nil || !ok || e.Mode != "100644" {
		t.Errorf("%+v, %v, %v", e, ok, err)
	}
	for _, path := range []string{"nope", "fleet.cue/x", "pools/p2/nope"} {
		if _, ok, err := r.At(refs.Tip, path); ok || err != nil {
			t.Errorf("%s: %v, %v", path, ok, err)
		}
	}
	if id, err := r.Resolve("HEAD~1"); err != nil || id != tip {
		t.Errorf("%s, %v", id, err)
	}
}

// TestFilesOfBadTrees: names that could lead elsewhere, and objects of the wrong kind, are errors.
func TestFilesOfBadTrees(t *testing.T) {
	u := newUpstream(t)
	s := u.serve(gitserver.Config{Plain: true})
	blob := []byte("hello")
	for name, entry := range map[string]string{"..": "100644 ..", "a slash": "100644 a/b", ".GIT": "40000 .GIT", "a blob as folder": "40000 pools"} {
		t.Run(name, func(t *testing.T) {
			raw := []byte(entry + "\x00" + rawID(idOf("blob", blob)))
			commit := commitOf(idOf("tree", raw))
			l := &liar{tip: idOf("commit", commit), pack: strings.NewReader(string(packOf(
				entryOf(3, blob), entryOf(2, raw), entryOf(1, commit))))}
			s.Set(gitserver.Handle(l))
			cfg := config(t, s)
			refs, _ := follow(t, newClient(t, cfg))
			r, err := source.Open(cfg.Dir)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if files, err := r.Files(refs.Tip, func(string) bool { return true }, source.Limits{}); err == nil {
				t.Fatalf("got %v", files)
			}
		})
	}
}

func entryOf(kind byte, raw []byte) []byte { return entry(kind, len(raw), raw) }

func rawID(text string) string {
	raw, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return string(raw)
}
