//go:build e2e

package identity_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/kube"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// direct is a link to the lab's API server with a node's credential, and nothing more.
type direct struct {
	server     *url.URL
	ca         []byte
	credential *identity.Credential
}

func (d *direct) RoundTrip(r *http.Request, _ bool) (*http.Response, error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(d.ca)
	u := *r.URL
	u.Scheme, u.Host = d.server.Scheme, d.server.Host
	r = r.Clone(r.Context())
	r.URL = &u
	t := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return d.credential.Certificate()
	}}}
	return t.RoundTrip(r)
}

// TestARealClusterRenewsAndVerifies: kube-controller-manager signs the node's new certificate, with which the API server takes it
// for the same node; nodes can read the keys that tokens are verified with; and a token that the API server made is verified
// with them, and one that it made for somebody else is not.
func TestARealClusterRenewsAndVerifies(t *testing.T) {
	l := labtest.Start(t, lab.Options{Controllers: true})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := l.Kubectl(ctx, args...)
		must(err)
		return out
	}
	config, err := l.NodeKubeconfig("n1")
	must(err)
	cfg, err := kube.Load(config)
	must(err)
	cert, err := cfg.Cert.Read()
	must(err)
	key, err := cfg.Key.Read()
	must(err)
	ca, err := cfg.CA.Read()
	must(err)
	dir := t.TempDir()
	path := filepath.Join(dir, "node.pem")
	must(identity.WriteCredential(path, cert, key))
	must(identity.Make(filepath.Join(dir, "tls"), "n1"))
	authority, err := identity.Load(filepath.Join(dir, "tls"))
	must(err)
	credential := identity.OpenCredential(path)
	before, err := credential.Certificate()
	must(err)

	var mu sync.Mutex
	kept := map[string][]byte{}
	document := func(path string) []byte { mu.Lock(); defer mu.Unlock(); return kept[path] }
	start := func(now func() time.Time) *identity.Maintenance {
		m := &identity.Maintenance{
			Node: "n1", Authority: authority, Credential: credential, Upstream: &direct{cfg.Server, ca, credential}, Online: func() bool { return true },
			Document: document, Keep: func(path, _ string, body []byte) { mu.Lock(); defer mu.Unlock(); kept[path] = body },
			Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: now, After: time.After,
		}
		run, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { m.Run(run); close(done) }()
		t.Cleanup(func() { stop(); <-done })
		return m
	}
	until := func(what string, f func() bool) {
		t.Helper()
		for !f() {
			select {
			case <-ctx.Done():
				t.Fatalf("%s: %v", what, ctx.Err())
			case <-time.After(50 * time.Millisecond):
			}
		}
	}

	// Without the role that `holdfast install` binds, nodes may not read the keys, and the reason says so.
	m := start(time.Now)
	until("nodes may not read the keys", func() bool {
		var p *identity.Problem
		return errors.As(m.Problem(), &p) && p.Reason == condition.ReasonIdentityNotKept && strings.Contains(p.Error(), "holdfast install")
	})
	kubectl("create", "clusterrolebinding", "discovery", "--clusterrole=system:service-account-issuer-discovery", "--group=system:nodes")
	kubectl("create", "clusterrolebinding", "renewal", "--clusterrole=system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", "--group=system:nodes")

	// By this clock it is time.
	m = start(func() time.Time {
		return before.Leaf.NotBefore.Add(before.Leaf.NotAfter.Sub(before.Leaf.NotBefore) * 9 / 10)
	})
	until("the certificate is renewed", func() bool {
		now, err := credential.Certificate()
		return err == nil && !now.Leaf.Equal(before.Leaf)
	})
	now, err := credential.Certificate()
	must(err)
	if now.Leaf.Subject.String() != before.Leaf.Subject.String() {
		t.Errorf("it is for %v", now.Leaf.Subject)
	}
	if got := whoami(t, ctx, &direct{cfg.Server, ca, credential}); got != "system:node:n1" {
		t.Errorf("the API server takes it for %q", got)
	}
	until("the keys are kept", func() bool { return document(identity.JWKSPath) != nil && document(identity.DiscoveryPath) != nil })
	m = start(time.Now)
	until("nothing is wrong", func() bool { return m.Problem() == nil })

	// Real tokens.
	who := identity.New(identity.Config{Node: "n1", ClientCAs: authority.ClientCAs(), Document: document, Now: time.Now})
	kubectl("create", "serviceaccount", "app")
	identify := func(token string) identity.Caller {
		c, err := who.Identify(&http.Request{TLS: &tls.ConnectionState{}, Header: http.Header{"Authorization": {"Bearer " + strings.TrimSpace(token)}}})
		must(err)
		return c
	}
	mine := identify(kubectl("create", "token", "app"))
	if !strings.HasPrefix(mine.Name, "system:serviceaccount:default:app@https://") {
		t.Errorf("%+v", mine.Name)
	}
	must(who.Verify(ctx, mine))
	var refused *identity.Unauthenticated
	if err := who.Verify(ctx, identify(kubectl("create", "token", "app", "--audience=vault"))); !errors.As(err, &refused) {
		t.Errorf("a token for somebody else: %v", err)
	}
	late := identity.New(identity.Config{Node: "n1", ClientCAs: authority.ClientCAs(), Document: document, Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
	if err := late.Verify(ctx, mine); !errors.As(err, &refused) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired token: %v", err)
	}
}

// whoami asks the API server who the credential is to it.
func whoami(t *testing.T, ctx context.Context, d *direct) string {
	t.Helper()
	body := strings.NewReader(`{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := d.RoundTrip(r, true)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Status struct {
			UserInfo struct{ Username string }
		}
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return got.Status.UserInfo.Username
}
