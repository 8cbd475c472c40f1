package source_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
	"github.com/holdfast-dev/holdfast/reconciler/source"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

func TestMain(m *testing.M) {
	sandbox.Main(source.Children())
	os.Exit(m.Run())
}

// upstream is a bare repository that a Git server serves as /fleet.git.
type upstream struct {
	tb   testing.TB
	root string
	dir  string
	n    int
}

func newUpstream(tb testing.TB) *upstream {
	tb.Helper()
	u := &upstream{tb: tb, root: tb.TempDir()}
	u.dir = filepath.Join(u.root, "fleet.git")
	u.git("", "init", "-q", "--bare", "-b", "main", u.dir)
	u.commit("main", 3)
	return u
}

// git runs git in the repository and gives its output without the last line end.
func (u *upstream) git(stdin string, args ...string) string {
	u.tb.Helper()
	return runGit(u.tb, u.root, stdin, append([]string{"--git-dir", u.dir}, args...)...)
}

func runGit(tb testing.TB, dir, stdin string, args ...string) string {
	tb.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.com"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null")
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("git %v: %v\n%s", args, err, stderr.String())
	}
	return strings.TrimSuffix(string(out), "\n")
}

// commit adds n commits to a branch and gives the new tip.
func (u *upstream) commit(branch string, n int) string {
	u.tb.Helper()
	ref := "refs/heads/" + branch
	var b strings.Builder
	exists := u.git("", "for-each-ref", ref) != ""
	for range n {
		u.n++
		fmt.Fprintf(&b, "commit %s\ncommitter t <t@example.com> %d +0000\ndata 1\nx\n", ref, 1700000000+u.n)
		if exists {
			fmt.Fprintf(&b, "from %s^0\n", ref)
			exists = false
		}
		text := strings.Repeat(fmt.Sprintf("change %d\n", u.n), 50)
		fmt.Fprintf(&b, "M 100644 inline pools/p%d/pool.cue\ndata %d\n%s\nM 100644 inline fleet.cue\ndata %d\n%s\n", u.n%5, len(text), text, len(text), text)
	}
	u.git(b.String(), "fast-import", "--quiet", "--force")
	return u.git("", "rev-parse", ref)
}

// note puts a commit at refs/notes/holdfast.
func (u *upstream) note() string {
	u.tb.Helper()
	u.n++
	u.git(fmt.Sprintf("commit refs/notes/holdfast\ncommitter t <t@example.com> %d +0000\ndata 1\nn\nM 100644 inline n%d\ndata 1\nx\n", 1700000000+u.n, u.n), "fast-import", "--quiet", "--force")
	return u.git("", "rev-parse", "refs/notes/holdfast")
}

// serve starts a Git server for the repository.
func (u *upstream) serve(cfg gitserver.Config) *gitserver.Server {
	u.tb.Helper()
	cfg.Root = u.root
	s, err := gitserver.Start(cfg)
	if err != nil {
		u.tb.Fatal(err)
	}
	u.tb.Cleanup(func() { _ = s.Close() })
	return s
}

// config follows the server's branch main into a new folder.
func config(tb testing.TB, s *gitserver.Server) source.Config {
	tb.Helper()
	return source.Config{
		URL: s.URL + "/fleet.git", Branch: "main", Dir: filepath.Join(tb.TempDir(), "repo"),
		Auth:   source.Auth{CA: s.CA},
		Limits: source.Limits{PollTimeout: 30 * time.Second, FetchTimeout: 3 * time.Minute, IdleTimeout: 30 * time.Second},
	}
}

func newClient(tb testing.TB, cfg source.Config) *source.Client {
	tb.Helper()
	c, err := source.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// follow polls and fetches.
func follow(tb testing.TB, c *source.Client) (source.Refs, source.Fetched) {
	tb.Helper()
	refs, err := c.Poll(tb.Context())
	if err != nil {
		tb.Fatalf("poll: %v", err)
	}
	done, err := c.Fetch(tb.Context(), refs)
	if err != nil {
		tb.Fatalf("fetch: %v", err)
	}
	return refs, done
}

// intact makes sure that the clone is at refs and has every object of them.
func intact(tb testing.TB, dir string, want source.Refs) {
	tb.Helper()
	r, err := source.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Close()
	got, err := r.Refs()
	if err != nil || got != want {
		tb.Fatalf("the clone is at %v, %v; want %v", got, err, want)
	}
	if want.Tip == "" {
		return
	}
	list := runGit(tb, dir, "", "--git-dir", dir, "-c", "safe.directory=*", "rev-list", "--objects", "--no-object-names", "--all")
	for id := range strings.Lines(list) {
		if _, _, err := r.Object(strings.TrimSpace(id)); err != nil {
			tb.Fatal(err)
		}
	}
}

// wantReason makes sure that err carries the reason, and that its text says more than that.
func wantReason(tb testing.TB, err error, reason string) {
	tb.Helper()
	if err == nil {
		tb.Fatalf("no error; want reason %s", reason)
	}
	if got := reconciler.Reason(err); got != reason {
		tb.Fatalf("reason %s, want %s: %v", got, reason, err)
	}
	if len(err.Error()) < 20 {
		tb.Fatalf("the message says too little: %v", err)
	}
}
