// Package kube is the node's own connection to the kube-apiserver: JSON over HTTP/2 with the kubelet's credentials. It
// exists because an idle agent must be small: the few calls it makes need none of client-go's types, schemes and
// caches. Certificates and tokens are read again when they change on disk.
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

const (
	// requestTimeout bounds every request but a watch.
	requestTimeout = 30 * time.Second
	// checkEvery is how often, at most, the files of the credentials are looked at.
	checkEvery = 10 * time.Second

	metadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
)

// Client talks to one kube-apiserver as one user. It is safe for concurrent use.
type Client struct {
	cfg   Config
	agent string

	mu      sync.Mutex // guards what follows
	http    *http.Client
	stamps  []stamp
	checked time.Time
}

// stamp tells whether a file was replaced.
type stamp struct {
	file string
	info os.FileInfo
}

// New gives a client. It reads no file and connects to nothing before the first request. userAgent is what the server's
// logs show.
func New(cfg Config, userAgent string) *Client { return &Client{cfg: cfg, agent: userAgent} }

// Close closes idle connections.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
}

// Get reads an object, only its metadata, into into. The path starts with /api.
func (c *Client) Get(ctx context.Context, path string, into any) error {
	return c.do(ctx, http.MethodGet, path, nil, nil, into)
}

// Apply applies an object server-side as that field manager, taking over fields that others set. With check nothing is
// stored: the server only says what it would have said.
func (c *Client) Apply(ctx context.Context, path, manager string, check bool, object any) error {
	q := url.Values{"fieldManager": {manager}, "force": {"true"}}
	if check {
		q.Set("dryRun", "All")
	}
	return c.do(ctx, http.MethodPatch, path, q, object, nil)
}

// User asks the server who this client is to it.
func (c *Client) User(ctx context.Context) (string, error) {
	review := map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
	var got struct {
		Status struct {
			UserInfo struct {
				Username string `json:"username"`
			} `json:"userInfo"`
		} `json:"status"`
	}
	err := c.do(ctx, http.MethodPost, "/apis/authentication.k8s.io/v1/selfsubjectreviews", nil, review, &got)
	return got.Status.UserInfo.Username, err
}

// do sends one request; a 401 is tried once more with credentials read anew.
func (c *Client) do(ctx context.Context, method, path string, q url.Values, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := c.try(ctx, method, path, q, body, into)
	var e *Error
	if errors.As(err, &e) && e.Code == http.StatusUnauthorized && c.reload() {
		err = c.try(ctx, method, path, q, body, into)
	}
	return err
}

func (c *Client) try(ctx context.Context, method, path string, q url.Values, body, into any) error {
	resp, err := c.send(ctx, method, path, q, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if into == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 8<<20))
	} else {
		err = json.NewDecoder(io.LimitReader(resp.Body, 8<<20)).Decode(into)
	}
	if err != nil {
		return c.noAnswer(ctx, fmt.Errorf("read answer to %s %s: %w", method, path, err))
	}
	return nil
}

// send gives a response with a status under 300, or an error.
func (c *Client) send(ctx context.Context, method, path string, q url.Values, body any) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode body of %s %s: %w", method, path, err)
		}
		reader = bytes.NewReader(raw)
	}
	u := *c.cfg.Server
	u.Path = strings.TrimSuffix(u.Path, "/") + path
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), reader)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", c.agent)
	req.Header.Set("Accept", metadataOnly)
	switch method {
	case http.MethodPatch:
		req.Header.Set("Content-Type", "application/apply-patch+yaml")
	case http.MethodPost:
		req.Header.Set("Accept", "application/json")
		req.Header.Set("Content-Type", "application/json")
	}
	client, token, err := c.current()
	if err != nil {
		return nil, &Error{Reason: condition.ReasonUnauthorized, Err: fmt.Errorf("load credentials: %w", err)}
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, c.noAnswer(ctx, err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, answer(req, resp)
	}
	return resp, nil
}

func (c *Client) noAnswer(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return &Error{Reason: condition.ReasonAPIUnreachable, Err: err}
}

// current gives the HTTP client and the token to use now, made anew if a file of the credentials was replaced.
func (c *Client) current() (*http.Client, string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.http == nil || time.Since(c.checked) >= checkEvery {
		c.checked = time.Now()
		if c.http == nil || c.replaced() {
			if err := c.build(); err != nil {
				return nil, "", err
			}
		}
	}
	token, err := c.cfg.Token.Read()
	return c.http, strings.TrimSpace(string(token)), err
}

// reload makes the next request look at the files at once, and says whether any was replaced.
func (c *Client) reload() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked = time.Time{}
	return c.replaced()
}

func (c *Client) replaced() bool {
	for _, s := range c.stamps {
		info, err := os.Stat(s.file)
		if err != nil || !os.SameFile(info, s.info) || !info.ModTime().Equal(s.info.ModTime()) || info.Size() != s.info.Size() {
			return true
		}
	}
	return false
}

// build makes the HTTP client. The old one's connections end when their requests do.
func (c *Client) build() error {
	stamps, err := c.stamp()
	if err != nil {
		return err
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.cfg.ServerName}
	if c.cfg.CA.Set() {
		raw, err := c.cfg.CA.Read()
		if err != nil {
			return err
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(raw) {
			return errors.New("certificate-authority holds no certificate")
		}
	}
	if c.cfg.Cert.Set() {
		cert, err := c.cfg.Cert.Read()
		if err != nil {
			return err
		}
		key, err := c.cfg.Key.Read()
		if err != nil {
			return err
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return fmt.Errorf("client certificate and key: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	proxy := http.ProxyFromEnvironment
	if c.cfg.Proxy != nil {
		proxy = http.ProxyURL(c.cfg.Proxy)
	}
	old := c.http
	c.http = &http.Client{Transport: &http.Transport{
		TLSClientConfig:     conf,
		Proxy:               proxy,
		ForceAttemptHTTP2:   true,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     90 * time.Second,
		MaxIdleConns:        2,
		// A link that swallows packets is noticed although a watch has nothing to say.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}}
	c.stamps = stamps
	if old != nil {
		old.CloseIdleConnections()
	}
	return nil
}

func (c *Client) stamp() ([]stamp, error) {
	var out []stamp
	for _, m := range []Material{c.cfg.CA, c.cfg.Cert, c.cfg.Key} {
		if m.File == "" {
			continue
		}
		info, err := os.Stat(m.File)
		if err != nil {
			return nil, err
		}
		out = append(out, stamp{m.File, info})
	}
	return out, nil
}
