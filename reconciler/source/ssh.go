package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	sidebandpkt "github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// sshRemote speaks Git's protocol, version 0, over SSH with go-git's transport. It runs only in children.
type sshRemote struct {
	cfg    Config
	remote remote
}

func newSSH(cfg Config, r remote) *sshRemote {
	gitssh.DefaultSSHConfig = nil // a node's ~/.ssh/config must not change where its fleet repo is
	return &sshRemote{cfg: cfg, remote: r}
}

// session connects and reads what the server advertises: all its refs, as version 0 has it.
func (s *sshRemote) session(ctx context.Context) (transport.UploadPackSession, *packp.AdvRefs, error) {
	auth, err := newSSHAuth(s.cfg.Auth, s.remote)
	if err != nil {
		return nil, nil, err
	}
	ep, err := transport.NewEndpoint(s.remote.String())
	if err != nil {
		return nil, nil, err
	}
	if p := s.cfg.Auth.Proxy; p != "" && p != "direct" {
		if !strings.HasPrefix(p, "socks5") {
			return nil, nil, errors.New("SSH goes through SOCKS5 proxies only: give proxy as socks5://host:port")
		}
		ep.Proxy = transport.ProxyOptions{URL: p}
	}
	session, err := gitssh.NewClient(nil).NewUploadPackSession(ep, auth)
	if err != nil {
		return nil, nil, s.explain(err)
	}
	refs, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return nil, nil, errors.Join(s.explain(err), session.Close())
	}
	return session, refs, nil
}

func (s *sshRemote) refs(ctx context.Context) (Refs, error) {
	session, adv, err := s.session(ctx)
	if err != nil {
		return Refs{}, err
	}
	defer session.Close()
	id := func(name string) string {
		if h, ok := adv.References[name]; ok {
			return h.String()
		}
		return ""
	}
	refs := Refs{Tip: id("refs/heads/" + s.cfg.Branch), Notes: id(NotesRef)}
	if refs.Tip == "" {
		return Refs{}, branchMissing(s.cfg)
	}
	return refs, nil
}

func (s *sshRemote) pack(ctx context.Context, want, have []string) (io.ReadCloser, error) {
	session, adv, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	req := packp.NewUploadPackRequest()
	for _, c := range []capability.Capability{capability.Sideband64k, capability.OFSDelta} {
		if !adv.Capabilities.Supports(c) {
			return nil, errors.Join(s.explain(fmt.Errorf("the server does not have the capability %s", c)), session.Close())
		}
		if err := req.Capabilities.Set(c); err != nil {
			return nil, errors.Join(err, session.Close())
		}
	}
	offered := map[string]bool{}
	for _, h := range adv.References {
		offered[h.String()] = true
	}
	for _, id := range want {
		if !offered[id] {
			return nil, errors.Join(moved(s.remote.String()), session.Close())
		}
		req.Wants = append(req.Wants, plumbing.NewHash(id))
	}
	for _, id := range have {
		req.Haves = append(req.Haves, plumbing.NewHash(id))
	}
	resp, err := session.UploadPack(ctx, req)
	if err != nil {
		return nil, errors.Join(s.explain(err), session.Close())
	}
	return &packBody{Reader: sidebandpkt.NewDemuxer(sidebandpkt.Sideband64k, resp), Closer: closers{resp, session}, explain: s.explain}, nil
}

type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, x := range c {
		errs = append(errs, x.Close())
	}
	return errors.Join(errs...)
}

// explain gives an error its reason.
func (s *sshRemote) explain(err error) error {
	var key *knownhosts.KeyError
	var network net.Error
	switch {
	case errors.As(err, &key) && len(key.Want) > 0:
		return fail(condition.ReasonAuthFailed, "the host key of %s is not the one in knownHosts: somebody may be in between, or the server was replaced: %w", s.remote.host(), err)
	case errors.As(err, &key):
		return fail(condition.ReasonAuthFailed, "knownHosts has no key of %s: %w", s.remote.host(), err)
	case strings.Contains(err.Error(), "unable to authenticate"):
		return fail(condition.ReasonAuthFailed, "%s refuses the key or password of user %q", s.remote.host(), s.user())
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed):
		return fail(condition.ReasonAuthFailed, "%s does not let these credentials read the repository", s.remote)
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return fail(condition.ReasonUnreachable, "there is no repository at %s, or the credentials may not see it", s.remote)
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return branchMissing(s.cfg)
	case errors.Is(err, context.DeadlineExceeded):
		return fail(condition.ReasonUnreachable, "reach %s: no answer in time", s.remote)
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fail(condition.ReasonUnreachable, "reach %s: %w", s.remote, err)
	}
	return fail(condition.ReasonProtocolError, "%s: %w", s.remote, err)
}

func (s *sshRemote) user() string {
	if u := s.remote.url.User.Username(); u != "" {
		return u
	}
	if s.cfg.Auth.Username != "" {
		return s.cfg.Auth.Username
	}
	return "git"
}

// sshAuth is go-git's AuthMethod with nothing taken from the environment.
type sshAuth struct{ config *ssh.ClientConfig }

func (a *sshAuth) Name() string                             { return "holdfast" }
func (a *sshAuth) String() string                           { return "user " + a.config.User }
func (a *sshAuth) ClientConfig() (*ssh.ClientConfig, error) { return a.config, nil }

func newSSHAuth(a Auth, r remote) (*sshAuth, error) {
	check, err := hostKeys(a.KnownHosts)
	if err != nil {
		return nil, err
	}
	config := &ssh.ClientConfig{
		User: (&sshRemote{cfg: Config{Auth: a}, remote: r}).user(), HostKeyCallback: check, Timeout: 10 * time.Second,
		HostKeyAlgorithms: knownAlgorithms(check, r.address()),
	}
	if a.Identity != "" {
		signer, err := parseIdentity(a)
		if err != nil {
			return nil, fail(condition.ReasonAuthFailed, "read the SSH identity: %w", err)
		}
		config.Auth = append(config.Auth, ssh.PublicKeys(signer))
	}
	if a.Password != "" {
		config.Auth = append(config.Auth, ssh.Password(a.Password))
	}
	return &sshAuth{config}, nil
}

func parseIdentity(a Auth) (ssh.Signer, error) {
	if a.IdentityPassphrase != "" {
		return ssh.ParsePrivateKeyWithPassphrase([]byte(a.Identity), []byte(a.IdentityPassphrase))
	}
	return ssh.ParsePrivateKey([]byte(a.Identity))
}

// hostKeys makes a check of known_hosts lines. Its parser reads files only, so they go through a pipe.
func hostKeys(lines string) (ssh.HostKeyCallback, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	go func() {
		_, _ = io.WriteString(w, lines+"\n") // fails only if the parser stopped reading, and says why
		_ = w.Close()
	}()
	check, err := knownhosts.New(fmt.Sprintf("/dev/fd/%d", r.Fd()))
	if err != nil {
		return nil, fail(condition.ReasonAuthFailed, "read knownHosts: %w", err)
	}
	return check, nil
}

// knownAlgorithms lists the algorithms of the keys known for an address, so that the server is asked for one of those. To
// learn them a key that cannot be there is asked for: the refusal names the others.
func knownAlgorithms(check ssh.HostKeyCallback, address string) []string {
	var refused *knownhosts.KeyError
	if !errors.As(check(address, &net.TCPAddr{}, noKey{}), &refused) {
		return nil
	}
	var names []string
	for _, k := range refused.Want {
		if t := k.Key.Type(); t == ssh.KeyAlgoRSA {
			names = append(names, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512)
		} else {
			names = append(names, t)
		}
	}
	return names
}

// noKey is a public key that nobody has.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }
