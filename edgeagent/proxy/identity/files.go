package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
)

// loadServer reads the server certificate, and checks that its authority is there with its key: names may have to be added.
func loadServer(dir string) (tls.Certificate, error) {
	ca, err := tls.LoadX509KeyPair(filepath.Join(dir, caCert), filepath.Join(dir, caKey))
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, serverCert), filepath.Join(dir, serverKey))
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := issuedBy(pair.Leaf, ca.Leaf, x509.ExtKeyUsageServerAuth); err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %w", filepath.Join(dir, serverCert), err)
	}
	return pair, nil
}

// loadClient reads the kubelet's certificate and its authority.
func loadClient(dir string) (pool *x509.CertPool, cert, key []byte, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, clientCACert))
	if err != nil {
		return nil, nil, nil, err
	}
	ca, err := Certificate(raw)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", filepath.Join(dir, clientCACert), err)
	}
	if cert, err = os.ReadFile(filepath.Join(dir, clientCert)); err != nil {
		return nil, nil, nil, err
	}
	if key, err = os.ReadFile(filepath.Join(dir, clientKey)); err != nil {
		return nil, nil, nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err == nil {
		err = issuedBy(pair.Leaf, ca, x509.ExtKeyUsageClientAuth)
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", filepath.Join(dir, clientCert), err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(ca)
	return pool, cert, key, nil
}

func issuedBy(leaf, ca *x509.Certificate, use x509.ExtKeyUsage) error {
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: anyTime, KeyUsages: []x509.ExtKeyUsage{use}})
	return err
}

// Certificate gives the first certificate of a PEM file.
func Certificate(raw []byte) (*x509.Certificate, error) {
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	return nil, errors.New("it holds no certificate")
}

func commonName(raw []byte) string {
	cert, err := Certificate(raw)
	if err != nil {
		return ""
	}
	return cert.Subject.CommonName
}

func newKey() (*pem.Block, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	return keyBlock(raw), err
}

func readKey(path string) (crypto.Signer, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s holds no key to sign with", path)
	}
	return signer, nil
}

func certBlock(der []byte) *pem.Block { return &pem.Block{Type: "CERTIFICATE", Bytes: der} }

func keyBlock(der []byte) *pem.Block { return &pem.Block{Type: "PRIVATE KEY", Bytes: der} }

func writePEM(dir, name string, block *pem.Block) error {
	return durable.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block))
}
