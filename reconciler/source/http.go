package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// httpRemote speaks Git's protocol, version 2, over HTTP. Version 2 needs no greeting: one POST asks and is answered, and
// the server sends only refs that were asked for.
type httpRemote struct {
	cfg    Config
	url    string
	client *http.Client
}

// newHTTP makes the connection pool. Nothing is dialled yet.
func newHTTP(cfg Config) (*httpRemote, error) {
	proxy, err := proxyFunc(cfg.Auth.Proxy)
	if err != nil {
		return nil, err
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(2)}
	if cfg.Auth.CA != "" {
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM([]byte(cfg.Auth.CA)) {
			return nil, errors.New("ca holds no PEM certificate")
		}
	}
	transport := &http.Transport{
		Proxy:                 proxy,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		TLSClientConfig:       tlsConfig,
		ResponseHeaderTimeout: cfg.Limits.IdleTimeout,
		MaxIdleConns:          1,
		IdleConnTimeout:       90 * time.Second,
		// A compressed answer could inflate to anything; packs are deflated already.
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	client := &http.Client{
		Transport: transport,
		// A redirect would send the request, and perhaps the credentials, to somebody the operator did not name.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &httpRemote{cfg: cfg, url: strings.TrimSuffix(cfg.URL, "/") + "/git-upload-pack", client: client}, nil
}

// proxyFunc reads Auth.Proxy.
func proxyFunc(proxy string) (func(*http.Request) (*url.URL, error), error) {
	switch proxy {
	case "":
		return http.ProxyFromEnvironment, nil
	case "direct":
		return nil, nil
	}
	u, err := url.Parse(proxy)
	if err != nil || u.Host == "" {
		return nil, errors.New("proxy is not a URL such as http://proxy.example.com:3128")
	}
	return http.ProxyURL(u), nil
}

// resolveProxy fixes what the environment says, because a child does not see it.
func resolveProxy(cfg Config, r remote) (Config, error) {
	if cfg.Auth.Proxy != "" || r.ssh() {
		return cfg, nil
	}
	u, err := http.ProxyFromEnvironment(&http.Request{URL: r.url})
	if err != nil {
		return cfg, fmt.Errorf("read the proxy from the environment: %w", err)
	}
	cfg.Auth.Proxy = "direct"
	if u != nil {
		cfg.Auth.Proxy = u.String()
	}
	return cfg, nil
}

// post sends one command and gives the answer's body, which ends when it stands still for too long.
func (h *httpRemote) post(ctx context.Context, body string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, strings.NewReader(body))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-git-upload-pack-request")
	req.Header.Set("Accept", "application/x-git-upload-pack-result")
	req.Header.Set("Git-Protocol", "version=2")
	req.Header.Set("User-Agent", "git/holdfast") // some forges route by "git/"
	switch a := h.cfg.Auth; {
	case a.BearerToken != "":
		req.Header.Set("Authorization", "Bearer "+a.BearerToken)
	case a.Password != "" || a.Username != "":
		req.SetBasicAuth(a.Username, a.Password)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		err = h.unreachable(ctx, err)
		cancel(nil)
		return nil, err
	}
	if err := h.checkStatus(resp); err != nil {
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that a short answer's connection can be used again
		_ = resp.Body.Close()
		cancel(nil)
		return nil, err
	}
	b := &idleBody{ReadCloser: resp.Body, ctx: ctx, idle: h.cfg.Limits.IdleTimeout, cancel: cancel, explain: h.unreachable}
	b.timer = time.AfterFunc(b.idle, func() { cancel(errIdle) })
	return b, nil
}

// unreachable explains why there is no answer.
func (h *httpRemote) unreachable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("no answer in time")
	}
	return fail(condition.ReasonUnreachable, "reach %s: %w", h.cfg.URL, err)
}

// checkStatus says what an answer other than Git's means.
func (h *httpRemote) checkStatus(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized && h.cfg.Auth.secret():
		return fail(condition.ReasonAuthFailed, "%s refuses the credentials (401): replace the token or password", h.cfg.URL)
	case code == http.StatusUnauthorized:
		return fail(condition.ReasonAuthFailed, "%s asks for credentials (401): give a token or a password", h.cfg.URL)
	case code == http.StatusForbidden:
		return fail(condition.ReasonAuthFailed, "%s does not let these credentials read the repository (403)", h.cfg.URL)
	case code == http.StatusNotFound || code == http.StatusGone:
		return fail(condition.ReasonUnreachable, "there is no repository at %s, or the credentials may not see it (%d)", h.cfg.URL, code)
	case code == http.StatusTooManyRequests || code >= 500:
		return fail(condition.ReasonUnreachable, "%s is in trouble: it answers %s", h.cfg.URL, resp.Status)
	case code >= 300 && code < 400:
		return fail(condition.ReasonProtocolError, "%s redirects to %s: redirects are not followed; use the repository's own URL", h.cfg.URL, location(resp))
	case code != http.StatusOK:
		return fail(condition.ReasonProtocolError, "%s answers %s to a Git request", h.cfg.URL, resp.Status)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/x-git-upload-pack-result" {
		return fail(condition.ReasonProtocolError, "%s is not a Git server: it answers with content of type %q", h.cfg.URL, got)
	}
	return nil
}

// location is where a redirect leads, without its query, which may hold a token.
func location(resp *http.Response) string {
	u, err := resp.Location()
	if err != nil {
		return "nowhere"
	}
	u.RawQuery, u.Fragment, u.User = "", "", nil
	return u.String()
}

var errIdle = errors.New("the transfer stood still")

// idleBody is an answer's body that gives up when nothing comes for a while.
type idleBody struct {
	io.ReadCloser
	ctx     context.Context
	idle    time.Duration
	timer   *time.Timer
	cancel  context.CancelCauseFunc
	explain func(context.Context, error) error
}

func (b *idleBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.timer.Reset(b.idle)
	if err != nil && err != io.EOF {
		err = b.explain(b.ctx, err)
	}
	return n, err
}

func (b *idleBody) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
