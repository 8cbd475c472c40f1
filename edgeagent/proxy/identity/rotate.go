package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	csrPath = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
	signer  = "kubernetes.io/kube-apiserver-client-kubelet"
	// approvalWait is how long one attempt waits to be approved. The next goes on with the same request.
	approvalWait = 2 * time.Minute
	// maxAnswer bounds an answer that is read whole.
	maxAnswer = 1 << 20
)

// Upstream is the link to the API servers.
type Upstream interface {
	// RoundTrip sends a request, whose URL has only a path, to an API server: as the node, or as whoever the request says.
	RoundTrip(req *http.Request, asNode bool) (*http.Response, error)
}

// csr is a CertificateSigningRequest, as far as it matters.
type csr struct {
	Spec   csrSpec `json:"spec"`
	Status struct {
		Certificate []byte `json:"certificate"`
		Conditions  []struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"conditions"`
	} `json:"status"`
}

type csrSpec struct {
	Request    []byte   `json:"request"`
	SignerName string   `json:"signerName"`
	Usages     []string `json:"usages"`
}

// rotate asks the cluster for a new certificate. The new key is on disk before anything is asked for, and stays there until
// its certificate is in use, so that a crash asks again for the same certificate.
func (m *Maintenance) rotate(ctx context.Context) error {
	key, err := m.nextKey()
	if err != nil {
		return fmt.Errorf("make a new key for the node's credential: %w", err)
	}
	request, name, err := m.request(key)
	if err != nil {
		return err
	}
	cert, before, err := m.signed(ctx, name, request)
	var refused *refusedError
	if errors.As(err, &refused) {
		return errors.Join(err, os.Remove(m.nextFile())) // the next attempt is a new request
	}
	if err != nil {
		return err
	}
	if err := m.usable(cert, key, before); err != nil {
		return errors.Join(fmt.Errorf("the cluster's certificate for this node: %w", err), os.Remove(m.nextFile()))
	}
	if err := m.Credential.replace(cert, key); err != nil {
		return err
	}
	m.renewed = m.Now()
	m.Log.Info("the node's credential was renewed", "request", name)
	return os.Remove(m.nextFile())
}

func (m *Maintenance) nextFile() string { return m.Credential.path + ".next" }

// nextKey gives the key of the certificate to come: the one that is there, or a new one.
func (m *Maintenance) nextKey() ([]byte, error) {
	raw, err := os.ReadFile(m.nextFile())
	if err == nil {
		if block, _ := pem.Decode(raw); block != nil {
			if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
				return raw, nil
			}
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	block, err := newKey()
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), writePEM(filepath.Dir(m.nextFile()), filepath.Base(m.nextFile()), block)
}

// request gives the request for a key, and its name, which follows from the key.
func (m *Maintenance) request(key []byte) ([]byte, string, error) {
	block, _ := pem.Decode(key)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, "", err
	}
	public, err := x509.MarshalPKIXPublicKey(parsed.(crypto.Signer).Public())
	if err != nil {
		return nil, "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: nodePrefix + m.Node, Organization: []string{"system:nodes"}},
	}, parsed)
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(public)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), "holdfast-" + hex.EncodeToString(sum[:12]), nil
}

// refusedError: this request will never be signed.
type refusedError struct{ why string }

func (e *refusedError) Error() string { return e.why }

// signed posts the request if it is not there, and waits for its certificate. before says that it was there.
func (m *Maintenance) signed(ctx context.Context, name string, request []byte) (cert []byte, before bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, approvalWait)
	defer cancel()
	body := map[string]any{
		"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": map[string]string{"name": name},
		"spec": csrSpec{Request: request, SignerName: signer, Usages: []string{"digital signature", "client auth"}},
	}
	code, _, err := m.call(ctx, http.MethodPost, csrPath, body, nil)
	if err != nil && code != http.StatusConflict {
		return nil, false, fmt.Errorf("ask for a new certificate: %w", err)
	}
	before = code == http.StatusConflict
	for wait := time.Second; ; wait = min(2*wait, 15*time.Second) {
		if ctx.Err() != nil {
			return nil, before, fmt.Errorf("CertificateSigningRequest %s was not approved yet: `kubectl certificate approve %s`, or bind ClusterRole system:certificates.k8s.io:certificatesigningrequests:selfnodeclient to Group system:nodes", name, name)
		}
		var got csr
		if _, _, err := m.call(ctx, http.MethodGet, csrPath+"/"+name, nil, &got); err != nil {
			if ctx.Err() != nil {
				continue // the wait ended in the middle of asking
			}
			return nil, before, fmt.Errorf("ask for a new certificate: %w", err)
		}
		for _, c := range got.Status.Conditions {
			if c.Type == "Denied" || c.Type == "Failed" {
				return nil, before, &refusedError{fmt.Sprintf("CertificateSigningRequest %s is %s: %s", name, c.Type, c.Message)}
			}
		}
		if len(got.Status.Certificate) > 0 {
			return got.Status.Certificate, before, nil
		}
		select {
		case <-ctx.Done():
		case <-m.After(wait):
		}
	}
}

// usable checks what the cluster signed: a certificate that does not work must not replace one that does. If it was signed just now
// the cluster's clock decides, and not the node's, whether it has expired.
func (m *Maintenance) usable(cert, key []byte, before bool) error {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	switch leaf := pair.Leaf; {
	case leaf.Subject.CommonName != nodePrefix+m.Node:
		return fmt.Errorf("it is for %q", leaf.Subject.CommonName)
	case !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth):
		return errors.New("it is not for clients")
	case before && m.Now().After(leaf.NotAfter):
		return fmt.Errorf("it expired at %s", leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// call sends a request as the node and reads the answer. Answers other than 2xx are errors with their code.
func (m *Maintenance) call(ctx context.Context, method, path string, body, into any) (code int, header http.Header, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var send io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		send = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, (&url.URL{Path: path}).String(), send)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Accept", "application/json")
	if path == JWKSPath {
		req.Header.Set("Accept", "application/jwk-set+json")
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := m.Upstream.RoundTrip(req, true)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return resp.StatusCode, nil, fmt.Errorf("%s %s: %w", method, path, err)
	case resp.StatusCode/100 != 2:
		return resp.StatusCode, nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, messageOf(raw))
	case into == nil:
		return resp.StatusCode, resp.Header, nil
	}
	if out, ok := into.(*[]byte); ok {
		*out = raw
		return resp.StatusCode, resp.Header, nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return resp.StatusCode, nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return resp.StatusCode, resp.Header, nil
}

// messageOf gives what a Status says, or the beginning of an answer that is none.
func messageOf(raw []byte) string {
	var status struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(raw, &status) == nil && status.Message != "" {
		return status.Message
	}
	return string(raw[:min(len(raw), 200)])
}
