package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Files of the node's own authorities.
const (
	caCert, caKey         = "ca.crt", "ca.key"
	serverCert, serverKey = "server.crt", "server.key"
	clientCACert          = "client-ca.crt"
	clientCert, clientKey = "kubelet.crt", "kubelet.key"
)

// PodAddress is the address that pods reach the proxy at, unless the agent's configuration says otherwise.
const PodAddress = "169.254.64.40"

// Local certificates hold on any clock: a node whose battery is flat starts in 1970.
var (
	always  = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	never   = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	anyTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
)

// names are those that node components and pods know the API server by.
func names() []string {
	return []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
}

// Authority is what this node vouches for itself with: one authority for server certificates, which pods are given to trust,
// and another for the one client certificate, the kubelet's. Neither can be taken for the other: each authority's extended
// key usage says what it may sign. It is safe for concurrent use.
type Authority struct {
	dir     string
	ca      []byte // PEM
	clients *x509.CertPool
	cert    []byte // PEM, the kubelet's
	key     []byte

	mu     sync.Mutex // held while the server certificate is issued anew
	server atomic.Pointer[tls.Certificate]
}

// Make makes what is missing in a folder: both authorities and their certificates. What is there and whole stays as it is.
func Make(dir, node string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make local certificates: %w", err)
	}
	if _, err := loadServer(dir); err != nil {
		if err := makeServer(dir, node); err != nil {
			return fmt.Errorf("make local server certificate: %w", err)
		}
	}
	if pool, cert, _, err := loadClient(dir); err != nil || commonName(cert) != nodePrefix+node || pool == nil {
		if err := makeClient(dir, node); err != nil {
			return fmt.Errorf("make local client certificate: %w", err)
		}
	}
	return nil
}

// Load reads what Make made.
func Load(dir string) (*Authority, error) {
	pair, err := loadServer(dir)
	if err != nil {
		return nil, fmt.Errorf("load local certificates: %w", err)
	}
	a := &Authority{dir: dir}
	if a.ca, err = os.ReadFile(filepath.Join(dir, caCert)); err != nil {
		return nil, fmt.Errorf("load local certificates: %w", err)
	}
	if a.clients, a.cert, a.key, err = loadClient(dir); err != nil {
		return nil, fmt.Errorf("load local certificates: %w", err)
	}
	a.server.Store(&pair)
	return a, nil
}

// CA gives the certificate that the proxy's callers must trust, as PEM.
func (a *Authority) CA() []byte { return slices.Clone(a.ca) }

// ClientCAs gives the authority of the kubelet's local certificate.
func (a *Authority) ClientCAs() *x509.CertPool { return a.clients }

// Client gives the kubelet's local certificate and its key, as PEM.
func (a *Authority) Client() (cert, key []byte) { return slices.Clone(a.cert), slices.Clone(a.key) }

// ServerTLS gives what to serve with. Client certificates are asked for and not checked, so that a caller with a foreign one
// gets an answer that says why: Identify checks them.
func (a *Authority) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.server.Load(), nil },
		ClientAuth:     tls.RequestClientCert,
		NextProtos:     []string{"h2", "http/1.1"},
	}
}

// Cover makes the server certificate hold for these addresses too. It is issued anew, with the same key, only if one is missing.
func (a *Authority) Cover(addresses ...netip.Addr) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	have := a.server.Load().Leaf.IPAddresses
	all := slices.Clone(have)
	for _, ip := range addresses {
		if ip = ip.Unmap(); ip.IsValid() && !slices.ContainsFunc(all, net.IP(ip.AsSlice()).Equal) {
			all = append(all, ip.AsSlice())
		}
	}
	if len(all) == len(have) {
		return nil
	}
	if err := issueServer(a.dir, all); err != nil {
		return fmt.Errorf("issue local server certificate: %w", err)
	}
	pair, err := loadServer(a.dir)
	if err != nil {
		return fmt.Errorf("issue local server certificate: %w", err)
	}
	a.server.Store(&pair)
	return nil
}

func addresses() []net.IP {
	return []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.ParseIP(PodAddress)}
}

// makeServer makes the authority for server certificates, whose key is kept because names may be added, and the first one.
func makeServer(dir, node string) error {
	der, key, err := newAuthority("Holdfast on "+node, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return err
	}
	leaf, err := newKey()
	if err != nil {
		return err
	}
	if err := errors.Join(writePEM(dir, caKey, key), writePEM(dir, caCert, certBlock(der)), writePEM(dir, serverKey, leaf)); err != nil {
		return err
	}
	return issueServer(dir, addresses())
}

// issueServer issues the server certificate for the key that is there.
func issueServer(dir string, ips []net.IP) error {
	ca, err := tls.LoadX509KeyPair(filepath.Join(dir, caCert), filepath.Join(dir, caKey))
	if err != nil {
		return err
	}
	key, err := readKey(filepath.Join(dir, serverKey))
	if err != nil {
		return err
	}
	der, err := sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "holdfast-agent"}, DNSNames: names(), IPAddresses: ips,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key.Public(), ca.Leaf, ca.PrivateKey)
	if err != nil {
		return err
	}
	return writePEM(dir, serverCert, certBlock(der))
}

// makeClient makes the authority for client certificates and the kubelet's. The authority's key is thrown away: nothing else
// will ever be signed with it.
func makeClient(dir, node string) error {
	der, key, err := newAuthority("Holdfast clients on "+node, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return err
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	signer, err := x509.ParsePKCS8PrivateKey(key.Bytes)
	if err != nil {
		return err
	}
	own, err := newKey()
	if err != nil {
		return err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(own.Bytes)
	if err != nil {
		return err
	}
	leaf, err := sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: nodePrefix + node, Organization: []string{"system:nodes"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, parsed.(crypto.Signer).Public(), ca, signer)
	if err != nil {
		return err
	}
	return errors.Join(writePEM(dir, clientCACert, certBlock(der)), writePEM(dir, clientKey, own), writePEM(dir, clientCert, certBlock(leaf)))
}

// newAuthority gives a self-signed authority that may sign leaves for one use, and its key.
func newAuthority(name string, use x509.ExtKeyUsage) ([]byte, *pem.Block, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: always, NotAfter: never,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{use},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	return der, keyBlock(raw), err
}

func sign(template *x509.Certificate, public any, ca *x509.Certificate, signer any) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(2))
	template.NotBefore, template.NotAfter, template.KeyUsage = always, never, x509.KeyUsageDigitalSignature
	return x509.CreateCertificate(rand.Reader, template, ca, public, signer)
}
