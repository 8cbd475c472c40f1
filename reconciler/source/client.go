package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

// Client follows one branch. It is safe for concurrent use.
type Client struct {
	cfg    Config
	remote remote
	http   *httpRemote // nil over SSH

	// fetching lets one fetch run at a time; a lock file keeps other processes out.
	fetching sync.Mutex

	mu     sync.Mutex // guards limits
	limits Limits
}

// New gives a client. It touches neither disk nor network.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r, err := parseRemote(cfg.URL)
	if err != nil {
		return nil, err
	}
	cfg.Limits = cfg.Limits.WithDefaults()
	if cfg, err = resolveProxy(cfg, r); err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, remote: r, limits: cfg.Limits}
	if !r.ssh() {
		c.http, err = newHTTP(cfg)
	}
	return c, err
}

// Limits gives the limits in force, with no zeros.
func (c *Client) Limits() Limits {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limits
}

// SetLimits makes what change gives of the configured limits hold from the next fetch on.
func (c *Client) SetLimits(change func(Limits) Limits) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limits = change(c.cfg.Limits).WithDefaults()
}

// Close ends idle connections.
func (c *Client) Close() {
	if c.http != nil {
		c.http.client.CloseIdleConnections()
	}
}

// Poll asks the server where the branch and the notes are: over HTTP with one request of this process, over SSH in a
// child. It writes nothing to disk.
func (c *Client) Poll(ctx context.Context) (Refs, error) {
	if c.http != nil {
		ctx, cancel := context.WithTimeout(ctx, c.cfg.Limits.PollTimeout)
		defer cancel()
		return c.http.refs(ctx)
	}
	lim := sandbox.Limits{MemoryMB: c.cfg.Limits.MemoryMB, CPU: c.cfg.Limits.CPU, Network: true, Timeout: c.cfg.Limits.PollTimeout, MaxOutput: 1 << 20}
	out, err := sandbox.Call[refsOutput](ctx, childRefs, lim, c.cfg)
	if err != nil {
		return Refs{}, c.childError(err)
	}
	return out.Refs, out.Failure.err()
}

// Fetch brings the clone to want, which a Poll gave, in a child. The clone's refs move only when all objects are there
// and on disk. A clone found damaged is set aside and fetched again: Fetched says so.
func (c *Client) Fetch(ctx context.Context, want Refs) (Fetched, error) {
	c.fetching.Lock()
	defer c.fetching.Unlock()
	cfg := c.cfg
	cfg.Limits = c.Limits()
	l := cfg.Limits
	lim := sandbox.Limits{
		MemoryMB: l.MemoryMB, CPU: l.CPU, Network: true, Timeout: l.FetchTimeout, MaxOutput: 1 << 20,
		FileMB: l.RepoBytes>>20 + 64,  // a second line: the bound on bytes is kept before it
		Write:  filepath.Dir(cfg.Dir), // beside the clone lie its lock, the one it may be replaced by, and the damaged one
	}
	if err := os.MkdirAll(lim.Write, 0o700); err != nil {
		return Fetched{}, storing("make the clone's parent folder", err)
	}
	out, err := sandbox.Call[fetchOutput](ctx, childFetch, lim, fetchInput{cfg, want})
	if err != nil {
		return Fetched{}, c.childError(err)
	}
	return out.Fetched, out.Failure.err()
}

// childError says what it means that a child did not come to an end by itself.
func (c *Client) childError(err error) error {
	switch {
	case errors.Is(err, sandbox.ErrTimeout):
		return fail(condition.ReasonUnreachable, "reach %s: %w", c.cfg.URL, err)
	case errors.Is(err, sandbox.ErrMemory), errors.Is(err, sandbox.ErrCPU):
		return fail(condition.ReasonTooLarge, "receive what %s sends: %w", c.cfg.URL, err)
	}
	return err
}

// Current gives the refs of the clone as of the last complete fetch; zero if there is no clone yet.
func (c *Client) Current() (Refs, error) {
	refs, err := readRefs(c.cfg.Dir)
	if missing(err) {
		return Refs{}, nil
	}
	return refs, err
}

// SetAside moves a clone that was found damaged out of the way: the next Fetch starts anew. One damaged clone is kept.
func (c *Client) SetAside() error {
	c.fetching.Lock()
	defer c.fetching.Unlock()
	unlock, err := lockClone(c.cfg.Dir)
	if err != nil {
		return err
	}
	return errors.Join(setAside(c.cfg.Dir), unlock())
}

// setAside keeps one damaged clone for whoever wants to know why.
func setAside(dir string) error {
	if err := os.RemoveAll(dir + ".damaged"); err != nil {
		return err
	}
	if err := os.Rename(dir, dir+".damaged"); err != nil && !missing(err) {
		return err
	}
	return nil
}

func checkBranch(name string) error {
	if name == "" {
		return fmt.Errorf("the followed branch needs a name")
	}
	if err := plumbing.NewBranchReferenceName(name).Validate(); err != nil {
		return fmt.Errorf("%q cannot be a branch's name", name)
	}
	return nil
}
