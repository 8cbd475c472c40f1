package source_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/source"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

func TestPollAndFetchOverHTTP(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	for name, c := range map[string]struct {
		server gitserver.Config
		auth   source.Auth
	}{
		"https":      {gitserver.Config{}, source.Auth{}},
		"http":       {gitserver.Config{Plain: true}, source.Auth{}},
		"a password": {gitserver.Config{Username: "node", Password: "s3cret"}, source.Auth{Username: "node", Password: "s3cret"}},
		"a token":    {gitserver.Config{BearerToken: "t0ken"}, source.Auth{BearerToken: "t0ken"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := u.serve(c.server)
			cfg := config(t, s)
			c.auth.CA = s.CA
			cfg.Auth = c.auth
			refs, _ := follow(t, newClient(t, cfg))
			if refs.Tip != u.git("", "rev-parse", "main") || refs.Notes != "" {
				t.Fatalf("polled %v", refs)
			}
			intact(t, cfg.Dir, refs)
		})
	}
}

// TestPollCost: a poll of a repository with 10,000 refs is one request, costs at most 2 KB, and touches no disk.
func TestPollCost(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	addRefs(u, 10_000)
	s := u.serve(gitserver.Config{Plain: true})
	cfg := config(t, s)
	c := newClient(t, cfg)
	refs, _ := follow(t, c)
	before := snapshot(t, cfg.Dir)
	s.Reset()
	for range 2 { // also on a connection that is there already
		got, err := c.Poll(t.Context())
		if err != nil || got != refs {
			t.Fatalf("%v, %v", got, err)
		}
	}
	in, out := s.Bytes()
	if n := s.Requests(); len(n) != 2 {
		t.Errorf("two polls made %d requests: %v", len(n), n)
	}
	if in+out > 2*2048 {
		t.Errorf("a poll costs %d bytes: %d up, %d down", (in+out)/2, in/2, out/2)
	}
	if after := snapshot(t, cfg.Dir); after != before {
		t.Errorf("a poll wrote to disk:\n%s\n%s", before, after)
	}
}

// addRefs gives the repository n more branches, packed.
func addRefs(u *upstream, n int) {
	u.tb.Helper()
	tip := u.git("", "rev-parse", "main")
	u.git("", "pack-refs", "--all")
	name := filepath.Join(u.dir, "packed-refs")
	packed, err := os.ReadFile(name)
	if err != nil {
		u.tb.Fatal(err)
	}
	lines := strings.SplitAfter(string(packed), "\n")
	head, rest := lines[0], lines[1:] // the head says that the rest is sorted
	for i := range n {
		rest = append(rest, fmt.Sprintf("%s refs/heads/feature/%d\n", tip, i))
	}
	slices.SortFunc(rest, func(a, b string) int { return strings.Compare(a[min(len(a), 41):], b[min(len(b), 41):]) })
	if err := os.WriteFile(name, []byte(head+strings.Join(rest, "")), 0o600); err != nil {
		u.tb.Fatal(err)
	}
	if got := strings.Count(u.git("", "for-each-ref"), "\n"); got < n {
		u.tb.Fatalf("%d refs", got)
	}
}

// snapshot describes a folder with all times of change.
func snapshot(tb testing.TB, dir string) string {
	tb.Helper()
	var b strings.Builder
	err := filepath.WalkDir(filepath.Dir(dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&b, path, info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func BenchmarkPoll(b *testing.B) {
	u := newUpstream(b)
	addRefs(u, 10_000)
	s := u.serve(gitserver.Config{Plain: true})
	c := newClient(b, config(b, s))
	for b.Loop() {
		if _, err := c.Poll(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	in, out := s.Bytes()
	n := float64(len(s.Requests()))
	b.ReportMetric(float64(in+out)/n, "http-bytes")
	b.ReportMetric(n/float64(b.N), "requests")
}

// identity makes an SSH key.
func identity(tb testing.TB) (pemText string, public ssh.PublicKey) {
	tb.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "node")
	if err != nil {
		tb.Fatal(err)
	}
	public, err = ssh.NewPublicKey(pub)
	if err != nil {
		tb.Fatal(err)
	}
	return string(pem.EncodeToMemory(block)), public
}

func TestPollAndFetchOverSSH(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	key, public := identity(t)
	other, otherPublic := identity(t)
	s, err := gitserver.StartSSH(gitserver.SSHConfig{Root: u.root, AuthorizedKey: public, Password: "s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "ssh://git@")
	otherHost := fmt.Sprintf("[%s]:%s %s", "127.0.0.1", host[strings.LastIndex(host, ":")+1:], ssh.MarshalAuthorizedKey(otherPublic))
	for name, c := range map[string]struct {
		auth   source.Auth
		reason string
		says   string
	}{
		"a key":                {source.Auth{Identity: key, KnownHosts: s.KnownHosts}, "", ""},
		"a password":           {source.Auth{Password: "s3cret", KnownHosts: s.KnownHosts}, "", ""},
		"a key nobody knows":   {source.Auth{Identity: other, KnownHosts: s.KnownHosts}, condition.ReasonAuthFailed, "refuses the key"},
		"another host key":     {source.Auth{Identity: key, KnownHosts: otherHost}, condition.ReasonAuthFailed, "somebody may be in between"},
		"no host key":          {source.Auth{Identity: key, KnownHosts: "elsewhere.example.com " + string(ssh.MarshalAuthorizedKey(public))}, condition.ReasonAuthFailed, "knownHosts has no key"},
		"a key that is no key": {source.Auth{Identity: "hello", KnownHosts: s.KnownHosts}, condition.ReasonAuthFailed, "read the SSH identity"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := source.Config{URL: s.URL + "/fleet.git", Branch: "main", Dir: filepath.Join(t.TempDir(), "repo"), Auth: c.auth}
			client := newClient(t, cfg)
			if c.reason != "" {
				_, err := client.Poll(t.Context())
				wantReason(t, err, c.reason)
				if !strings.Contains(err.Error(), c.says) {
					t.Fatalf("got %q, want it to say %q", err, c.says)
				}
				return
			}
			refs, _ := follow(t, client)
			intact(t, cfg.Dir, refs)
			u.commit("main", 2)
			notes := u.note()
			refs, done := follow(t, client)
			if refs.Notes != notes || done.Objects == 0 || done.Objects > 20 {
				t.Fatalf("%v: transferred %+v", refs, done)
			}
			intact(t, cfg.Dir, refs)
			u.git("", "update-ref", "-d", source.NotesRef)
		})
	}
	for name, c := range map[string]struct{ url, branch, reason string }{
		"no such branch":     {s.URL + "/fleet.git", "nope", condition.ReasonBranchMissing},
		"no such repository": {s.URL + "/nope.git", "main", condition.ReasonUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newClient(t, source.Config{URL: c.url, Branch: c.branch, Dir: t.TempDir(), Auth: source.Auth{Identity: key, KnownHosts: s.KnownHosts}}).Poll(t.Context())
			wantReason(t, err, c.reason)
		})
	}
	t.Run("down", func(t *testing.T) {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := newClient(t, source.Config{URL: s.URL + "/fleet.git", Branch: "main", Dir: t.TempDir(), Auth: source.Auth{Identity: key, KnownHosts: s.KnownHosts}}).Poll(t.Context())
		wantReason(t, err, condition.ReasonUnreachable)
	})
}

// TestSSHBlackHole: a server that accepts and says nothing costs the poll its deadline, not the agent.
func TestSSHBlackHole(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	key, public := identity(t)
	cfg := source.Config{
		URL: "ssh://git@" + l.Addr().String() + "/fleet.git", Branch: "main", Dir: t.TempDir(),
		Auth:   source.Auth{Identity: key, KnownHosts: "* " + string(ssh.MarshalAuthorizedKey(public))},
		Limits: source.Limits{PollTimeout: time.Second},
	}
	_, err = newClient(t, cfg).Poll(t.Context())
	wantReason(t, err, condition.ReasonUnreachable)
}

// troubles are the ways a Git server fails, with the reason each must have.
func troubles(other string) map[string]struct {
	fault  gitserver.Fault
	reason string
} {
	type trouble = struct {
		fault  gitserver.Fault
		reason string
	}
	return map[string]trouble{
		"hanging":       {gitserver.Hanging, condition.ReasonUnreachable},
		"black hole":    {gitserver.BlackHole, condition.ReasonUnreachable},
		"garbage":       {gitserver.Garbage, condition.ReasonProtocolError},
		"a login page":  {gitserver.Page, condition.ReasonProtocolError},
		"401":           {gitserver.Answer(http.StatusUnauthorized), condition.ReasonAuthFailed},
		"403":           {gitserver.Answer(http.StatusForbidden), condition.ReasonAuthFailed},
		"404":           {gitserver.Answer(http.StatusNotFound), condition.ReasonUnreachable},
		"429":           {gitserver.Answer(http.StatusTooManyRequests), condition.ReasonUnreachable},
		"500":           {gitserver.Answer(http.StatusInternalServerError), condition.ReasonUnreachable},
		"418":           {gitserver.Answer(http.StatusTeapot), condition.ReasonProtocolError},
		"redirect":      {gitserver.RedirectTo(other), condition.ReasonProtocolError},
		"nothing":       {gitserver.Body(nil), condition.ReasonProtocolError},
		"an error line": {gitserver.Body([]byte("0014ERR out of luck\n")), condition.ReasonUnreachable},
		"half a line":   {gitserver.Body([]byte("00ff12")), condition.ReasonProtocolError},
		"cut off":       {gitserver.CutAfter(30), condition.ReasonUnreachable},
	}
}

// TestBadServers: whatever the server does, poll and fetch say what it is, in time, and the clone stays as it was.
func TestBadServers(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	elsewhere := u.serve(gitserver.Config{})
	s := u.serve(gitserver.Config{Username: "node", Password: "s3cret"})
	cfg := config(t, s)
	cfg.Auth.Username, cfg.Auth.Password = "node", "s3cret"
	refs, _ := follow(t, newClient(t, cfg))
	next := source.Refs{Tip: u.commit("main", 1)}
	for name, c := range troubles(elsewhere.URL) {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			if silent := name == "hanging" || name == "black hole"; silent {
				cfg.Limits.PollTimeout, cfg.Limits.FetchTimeout, cfg.Limits.IdleTimeout = 500*time.Millisecond, 2*time.Second, 500*time.Millisecond
			}
			client := newClient(t, cfg) // a connection of its own: a black hole swallows those that are open
			s.Set(c.fault)
			defer s.Set(gitserver.Healthy)
			start := time.Now()
			_, err := client.Poll(t.Context())
			wantReason(t, err, c.reason)
			_, err = client.Fetch(t.Context(), next)
			wantReason(t, err, c.reason)
			if took := time.Since(start); took > 15*time.Second {
				t.Errorf("it took %s", took)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the message tells the password: %v", err)
			}
			intact(t, cfg.Dir, refs)
		})
	}
	if got := elsewhere.Requests(); len(got) != 0 {
		t.Errorf("a redirect was followed to another host: %v", got)
	}
	got, _ := follow(t, newClient(t, cfg))
	if got != next {
		t.Fatalf("after the trouble: %v, want %v", got, next)
	}
	intact(t, cfg.Dir, next)
}

func TestServerDown(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	s := u.serve(gitserver.Config{})
	cfg := config(t, s)
	refs, _ := follow(t, newClient(t, cfg))
	if err := s.Down(); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, cfg)
	_, err := c.Poll(t.Context())
	wantReason(t, err, condition.ReasonUnreachable)
	_, err = c.Fetch(t.Context(), source.Refs{Tip: u.commit("main", 1)})
	wantReason(t, err, condition.ReasonUnreachable)
	intact(t, cfg.Dir, refs)
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	refs, _ = follow(t, c)
	intact(t, cfg.Dir, refs)
}

func TestBranchMissing(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	s := u.serve(gitserver.Config{})
	cfg := config(t, s)
	u.commit("mainly", 1) // its name begins with the branch's
	u.git("", "update-ref", "-d", "refs/heads/main")
	_, err := newClient(t, cfg).Poll(t.Context())
	wantReason(t, err, condition.ReasonBranchMissing)
}

func TestWrongCA(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	s, other := u.serve(gitserver.Config{}), u.serve(gitserver.Config{})
	cfg := config(t, s)
	cfg.Auth.CA = other.CA
	_, err := newClient(t, cfg).Poll(t.Context())
	wantReason(t, err, condition.ReasonUnreachable)
	if !strings.Contains(err.Error(), "certificate") {
		t.Fatalf("got %v", err)
	}
}

// TestProxy: requests go through the proxy that is named.
func TestProxy(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	s := u.serve(gitserver.Config{Plain: true})
	proxied := 0
	proxy := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxied++
		r.RequestURI = ""
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = proxy.Serve(l) }()
	defer proxy.Close()
	cfg := config(t, s)
	cfg.Auth.Proxy = "http://" + l.Addr().String()
	refs, _ := follow(t, newClient(t, cfg))
	intact(t, cfg.Dir, refs)
	if proxied != 2 {
		t.Fatalf("%d requests went through the proxy, want a poll and a fetch", proxied)
	}
}

func TestCurrentWithoutClone(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	cfg := config(t, u.serve(gitserver.Config{}))
	refs, err := newClient(t, cfg).Current()
	if err != nil || refs != (source.Refs{}) {
		t.Fatalf("%v, %v", refs, err)
	}
	if _, err := source.Open(cfg.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("open: %v", err)
	}
}
