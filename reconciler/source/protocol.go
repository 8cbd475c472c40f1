package source

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/source/pack"
)

// maxRefsAnswer bounds the answer to a poll. The server filters by prefix, so branches whose names begin with the
// followed one's come along.
const maxRefsAnswer = 4 << 20

// server is one way to talk to a Git server.
type server interface {
	// refs asks where the branch and the notes are.
	refs(ctx context.Context) (Refs, error)
	// pack asks for the objects of want that have does not have. The pack ends with io.EOF.
	pack(ctx context.Context, want, have []string) (io.ReadCloser, error)
}

// newServer gives the way that the URL asks for.
func newServer(cfg Config, r remote) (server, error) {
	if r.ssh() {
		return newSSH(cfg, r), nil
	}
	return newHTTP(cfg)
}

// refs is one ls-refs request.
func (h *httpRemote) refs(ctx context.Context) (Refs, error) {
	branch := "refs/heads/" + h.cfg.Branch
	body, err := h.post(ctx, pkt("command=ls-refs")+pkt("object-format=sha1")+delimPkt+
		pkt("ref-prefix "+branch)+pkt("ref-prefix "+NotesRef)+flushPkt)
	if err != nil {
		return Refs{}, err
	}
	defer body.Close()
	pkts := &pktReader{r: &capped{r: body, left: maxRefsAnswer}}
	var refs Refs
	for {
		line, mark, err := pkts.line()
		if err != nil {
			return Refs{}, h.protocol(err)
		}
		if mark >= 0 {
			break
		}
		id, rest, _ := strings.Cut(line, " ")
		if _, err := pack.ParseID(id); err != nil {
			return Refs{}, h.protocol(errors.New("the answer to ls-refs has a line that is not a SHA-1 and a name"))
		}
		switch name, _, _ := strings.Cut(rest, " "); name {
		case branch:
			refs.Tip = id
		case NotesRef:
			refs.Notes = id
		}
	}
	// Read to the end, so that the connection can be used for the next poll.
	if _, err := io.Copy(io.Discard, &capped{r: body, left: 4 << 10}); err != nil {
		return Refs{}, h.protocol(err)
	}
	if refs.Tip == "" {
		return Refs{}, branchMissing(h.cfg)
	}
	return refs, nil
}

// pack is one fetch request: "done" ends the negotiation, so the answer is the pack.
func (h *httpRemote) pack(ctx context.Context, want, have []string) (io.ReadCloser, error) {
	var b strings.Builder
	b.WriteString(pkt("command=fetch") + pkt("object-format=sha1") + delimPkt + pkt("ofs-delta") + pkt("no-progress"))
	for _, id := range want {
		b.WriteString(pkt("want " + id))
	}
	for _, id := range have {
		b.WriteString(pkt("have " + id))
	}
	b.WriteString(pkt("done") + flushPkt)
	body, err := h.post(ctx, b.String())
	if err != nil {
		return nil, err
	}
	pkts := &pktReader{r: body}
	line, _, err := pkts.line()
	if err == nil && line != "packfile" {
		err = errors.New("the answer to fetch does not begin with the pack")
		if line == "shallow-info" {
			err = errors.New("the server's repository is shallow: its history is cut off, and descent cannot be proved")
		}
	}
	if err != nil {
		return nil, errors.Join(h.protocol(err), body.Close())
	}
	return &packBody{Reader: &sideband{pkts: pkts}, Closer: body, explain: h.protocol}, nil
}

// protocol gives an error in reading an answer its reason, if it has none yet.
func (h *httpRemote) protocol(err error) error { return protocolError(h.cfg, err) }

func protocolError(cfg Config, err error) error {
	var known *Error
	if errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return err
	}
	if e := (*errServer)(nil); errors.As(err, &e) {
		if strings.Contains(e.text, "not our ref") {
			return moved(cfg.URL)
		}
		return fail(condition.ReasonUnreachable, "%s: %w", cfg.URL, err)
	}
	return fail(condition.ReasonProtocolError, "%s: %w (it must speak Git protocol version 2: git 2.18 or newer)", cfg.URL, err)
}

// moved is for a server that no longer has what it offered a moment ago.
func moved(url string) error {
	return fail(condition.ReasonUnreachable, "%s no longer has what it offered: the branch moved; the next poll will tell", url)
}

func branchMissing(cfg Config) error {
	return fail(condition.ReasonBranchMissing, "%s has no branch %q", cfg.URL, cfg.Branch)
}

// packBody is a pack on its way, whose errors have reasons.
type packBody struct {
	io.Reader
	io.Closer
	explain func(error) error
}

func (p *packBody) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if err != nil && err != io.EOF {
		err = p.explain(err)
	}
	return n, err
}

// capped is a reader that may give so many bytes and no more.
type capped struct {
	r    io.Reader
	left int64
}

func (c *capped) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("the answer is longer than any there should be")
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}
