// Package kube is the node's own connection to the kube-apiserver: JSON over HTTP/2 with the kubelet's credentials. It
// exists because an idle agent must be small: the few calls it makes need none of client-go's types, schemes and
// caches. Certificates and tokens are read again when they change on disk.
package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
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

// Warnings reads an object, throws it away, and gives what the server's Warning headers say.
func (c *Client) Warnings(ctx context.Context, path string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.send(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 8<<20)); err != nil {
		return nil, c.noAnswer(ctx, err)
	}
	var out []string
	for _, w := range resp.Header.Values("Warning") { // 299 - "text"
		_, text, _ := strings.Cut(w, `"`)
		out = append(out, strings.TrimSuffix(text, `"`))
	}
	return out, nil
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
