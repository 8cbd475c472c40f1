package source

import (
	"context"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
)

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
	return &Client{cfg: cfg, remote: r}, nil
}

// Poll asks the server where the branch and the notes are: over HTTP with one request of this process, over SSH in a
// child. It writes nothing to disk.
func (c *Client) Poll(ctx context.Context) (Refs, error) { return Refs{}, nil }

// Fetch brings the clone to want, which a Poll gave, in a child. The clone's refs move only when all objects are there
// and on disk. A damaged clone is set aside and fetched again; repaired says so.
func (c *Client) Fetch(ctx context.Context, want Refs) (repaired bool, err error) { return false, nil }

// Current gives the refs of the clone as of the last complete fetch; zero if there is no clone yet.
func (c *Client) Current() (Refs, error) { return Refs{}, nil }

// SetAside moves a clone that was found damaged out of the way: the next Fetch starts anew. One damaged clone is kept.
func (c *Client) SetAside() error { return nil }

func checkBranch(name string) error {
	if name == "" {
		return fmt.Errorf("the followed branch needs a name")
	}
	if err := plumbing.NewBranchReferenceName(name).Validate(); err != nil {
		return fmt.Errorf("%q cannot be a branch's name", name)
	}
	return nil
}

func serveRefs(ctx context.Context, cfg Config) (Refs, error) { return Refs{}, nil }

func serveFetch(ctx context.Context, in struct{}) (struct{}, error) { return struct{}{}, nil }
