package offline

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	// passHolds is for how long the kubelet may ask who the proxy is: it does so at once.
	passHolds = time.Minute
	// dialTimeout is for one address of the kubelet.
	dialTimeout = 5 * time.Second
	userPrefix  = "holdfast:local-root:"
)

// kubelet reaches the local kubelet. The kubelet knows nobody but who the kube-apiserver vouches for, and it asks for that through
// this very proxy: so the proxy shows it a random token, made for one request, and vouches for that itself.
type kubelet struct {
	certificates []string

	mu     sync.Mutex // guards passes
	passes map[string]pass
}

// pass is one token that the proxy made.
type pass struct {
	user  string
	until time.Time
}

func newKubelet(cfg Kubelet) *kubelet {
	return &kubelet{certificates: cfg.Certificates, passes: map[string]pass{}}
}

// issue makes a token for one request.
func (k *kubelet) issue() string {
	var b [48]byte
	_, _ = rand.Read(b[:]) // never fails
	token := base64.RawURLEncoding.EncodeToString(b[:32])
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	for t, p := range k.passes {
		if now.After(p.until) {
			delete(k.passes, t)
		}
	}
	k.passes[token] = pass{user: userPrefix + hex.EncodeToString(b[32:]), until: now.Add(passHolds)}
	return token
}

// review answers the kubelet's questions about tokens made here; nil for all others.
func (k *kubelet) review(kind string, body map[string]any, node string) map[string]any {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	spec := child(body, "spec")
	switch kind {
	case "TokenReview":
		p, ok := k.passes[text(spec, "token")]
		if !ok || now.After(p.until) {
			return nil
		}
		status := map[string]any{"authenticated": true, "user": map[string]any{"username": p.user, "groups": []any{"system:authenticated"}}}
		if audiences := spec["audiences"]; audiences != nil {
			status["audiences"] = audiences
		}
		return map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": kind, "metadata": map[string]any{}, "spec": map[string]any{}, "status": status}
	case "SubjectAccessReview":
		user, about := text(spec, "user"), child(spec, "resourceAttributes")
		for _, p := range k.passes {
			if p.user == user && now.Before(p.until) && about["resource"] == "nodes" && about["name"] == node {
				status := map[string]any{"allowed": true, "reason": "the autonomy proxy acts for root of this node"}
				return map[string]any{"apiVersion": "authorization.k8s.io/v1", "kind": kind, "metadata": map[string]any{}, "spec": spec, "status": status}
			}
		}
	}
	return nil
}

// transport connects to the kubelet, at the first of its addresses where it is, for one request.
func (k *kubelet) transport(addresses []string) (*http.Transport, error) {
	pinned, err := k.pinned()
	if err != nil {
		return nil, err
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: dialTimeout}, Config: &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		// The certificate names an authority that nobody here can check, or none: it must be the very one in the kubelet's files.
		InsecureSkipVerify: true,
		VerifyConnection:   pinned.check,
	}}
	return &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var errs []error
			for _, address := range addresses {
				conn, err := dialer.DialContext(ctx, network, address)
				if err == nil {
					return conn, nil
				}
				errs = append(errs, err)
			}
			return nil, errors.Join(errs...)
		},
	}, nil
}

// pins are the certificates that the kubelet may show; none: any.
type pins [][]byte

func (p pins) check(state tls.ConnectionState) error {
	if len(p) == 0 || slices.ContainsFunc(p, func(der []byte) bool { return bytes.Equal(der, state.PeerCertificates[0].Raw) }) {
		return nil
	}
	return errors.New("what answers at the kubelet's port does not show the kubelet's certificate")
}

// pinned reads the kubelet's certificates, anew each time: the kubelet rotates them.
func (k *kubelet) pinned() (pins, error) {
	var out pins
	for _, file := range k.certificates {
		raw, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the kubelet's certificate: %w", err)
		}
		for {
			var block *pem.Block
			if block, raw = pem.Decode(raw); block == nil {
				break
			}
			if block.Type == "CERTIFICATE" {
				out = append(out, block.Bytes)
			}
		}
	}
	return out, nil
}
