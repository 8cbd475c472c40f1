package kube

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// stamp tells whether a file was replaced.
type stamp struct {
	file string
	info os.FileInfo
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
