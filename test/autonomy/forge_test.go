//go:build e2e

package autonomy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// forge takes a token apart, lets change alter what it says, and signs it anew; with nil the old signature stays.
func (c *callers) forge(token string, change func(header, claims map[string]any), sign func(signed []byte) []byte) string {
	c.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		c.Fatalf("a token has %d parts", len(parts))
	}
	var said [2]map[string]any
	for i := range said {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		c.must(err)
		c.must(json.Unmarshal(raw, &said[i]))
	}
	change(said[0], said[1])
	for i := range said {
		raw, err := json.Marshal(said[i])
		c.must(err)
		parts[i] = base64.RawURLEncoding.EncodeToString(raw)
	}
	if sign != nil {
		parts[2] = base64.RawURLEncoding.EncodeToString(sign([]byte(parts[0] + "." + parts[1])))
	}
	return strings.Join(parts, ".")
}

// signer signs as ES256 does, with the API server's own key or with one that nobody knows.
func (c *callers) signer(own bool) func([]byte) []byte {
	c.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	c.must(err)
	if own {
		key = c.issuerKey()
	}
	return func(signed []byte) []byte {
		sum := sha256.Sum256(signed)
		r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
		c.must(err)
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
}

// issuerKey is what the API server signs tokens with.
func (c *callers) issuerKey() *ecdsa.PrivateKey {
	c.Helper()
	raw, err := os.ReadFile(filepath.Join(c.lab.Dir, "pki", "tokens.key"))
	c.must(err)
	block, _ := pem.Decode(raw)
	if block == nil {
		c.Fatal("tokens.key holds no key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	c.must(err)
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		c.Fatalf("tokens are signed with a %T", key)
	}
	return ec
}

// hmacWithPublicKey signs as who hopes that the verifier takes its public key for a shared secret.
func (c *callers) hmacWithPublicKey() func([]byte) []byte {
	c.Helper()
	der, err := x509.MarshalPKIXPublicKey(c.issuerKey().Public())
	c.must(err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return func(signed []byte) []byte {
		h := hmac.New(sha256.New, public)
		h.Write(signed)
		return h.Sum(nil)
	}
}

// audience gives a genuine token that is meant for somebody else.
func (c *callers) audience(namespace, name string) string {
	c.Helper()
	var answer struct{ Status struct{ Token string } }
	c.must(c.lab.Request(c.Context(), http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+name+"/token",
		map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": map[string]any{"audiences": []string{"vault"}}}, &answer))
	return answer.Status.Token
}

// badTokens are tokens that say they are the genuine one's owner, and must be worth nothing.
func (c *callers) badTokens(genuine, other string) map[string]string {
	c.Helper()
	same := func(_, _ map[string]any) {}
	owner := map[string]any{}
	c.forge(genuine, func(_, claims map[string]any) { owner = claims }, nil)
	algorithm := func(name string) func(map[string]any, map[string]any) {
		return func(header, _ map[string]any) { header["alg"] = name }
	}
	expired := func(_, claims map[string]any) {
		now := time.Now()
		claims["iat"], claims["nbf"], claims["exp"] = now.Add(-3*time.Hour).Unix(), now.Add(-3*time.Hour).Unix(), now.Add(-time.Hour).Unix()
	}
	return map[string]string{
		"expired":                         c.forge(genuine, expired, c.signer(true)),
		"no algorithm, no signature":      c.forge(genuine, algorithm("none"), func([]byte) []byte { return nil }),
		"no algorithm, old signature":     c.forge(genuine, algorithm("none"), nil),
		"the public key as a secret":      c.forge(genuine, algorithm("HS256"), c.hmacWithPublicKey()),
		"another key":                     c.forge(genuine, same, c.signer(false)),
		"another key under its own id":    c.forge(genuine, func(header, _ map[string]any) { header["kid"] = "mine" }, c.signer(false)),
		"no key named, another key":       c.forge(genuine, func(header, _ map[string]any) { delete(header, "kid") }, c.signer(false)),
		"the claims of somebody else":     c.forge(other, func(_, claims map[string]any) { clear(claims); maps.Copy(claims, owner) }, nil),
		"a longer life":                   c.forge(genuine, func(_, claims map[string]any) { claims["exp"] = time.Now().AddDate(9, 0, 0).Unix() }, nil),
		"another issuer":                  c.forge(genuine, func(_, claims map[string]any) { claims["iss"] = "https://evil.example.com" }, c.signer(true)),
		"for another audience":            c.audience("shop", "reader"),
		"an extension that must be known": c.forge(genuine, func(header, _ map[string]any) { header["crit"] = []string{"exp"} }, nil),
		"not a token":                     "reader",
	}
}

// badCertificates are client certificates that say they are this node, or an administrator, and must be worth nothing.
func (c *callers) badCertificates() map[string]*tls.Certificate {
	c.Helper()
	out := map[string]*tls.Certificate{}
	for name, who := range map[string][2]string{
		"the cluster's CA, an administrator": {"root", "system:masters"}, "the cluster's CA, this node": {"system:node:" + c.node.Name, "system:nodes"},
	} {
		file, err := c.lab.Kubeconfig("bad-"+who[0], who[0], who[1])
		c.must(err)
		cfg, err := clientcmd.BuildConfigFromFlags("", file)
		c.must(err)
		cert, err := tls.X509KeyPair(cfg.CertData, cfg.KeyData)
		c.must(err)
		out[name] = &cert
	}
	self := selfSigned(c, "system:node:"+c.node.Name)
	out["self-signed"] = &self
	server, err := tls.LoadX509KeyPair(c.tls("server.crt"), c.tls("server.key"))
	c.must(err)
	out["the proxy's own, for servers"] = &server
	return out
}

func selfSigned(c *callers, name string) tls.Certificate {
	c.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	c.must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"system:nodes"}}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	c.must(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: crypto.PrivateKey(key)}
}

// nodeCertificate is the node's local certificate.
func (c *callers) nodeCertificate() *tls.Certificate {
	c.Helper()
	cert, err := tls.LoadX509KeyPair(c.tls("kubelet.crt"), c.tls("kubelet.key"))
	c.must(err)
	return &cert
}

// tlsTo gives what to dial the proxy with.
func (c *callers) tlsTo(cert *tls.Certificate) *tls.Config {
	c.Helper()
	raw, err := os.ReadFile(c.tls("ca.crt"))
	c.must(err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		c.must(errors.New("ca.crt holds no certificate"))
	}
	conf := &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
	if cert != nil {
		// The proxy names the authority it wants, and a client of good faith would not send another's.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	return conf
}

// client gives an HTTP/2 client of the proxy.
func (c *callers) client(cfg *rest.Config) *http.Client {
	c.Helper()
	client, err := rest.HTTPClientFor(cfg)
	c.must(err)
	c.Cleanup(client.CloseIdleConnections)
	return client
}
