package lease_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// member is a node's key and certificate, as a pool's members have them: the key counts, nothing else.
type member struct {
	name string
	cert tls.Certificate
}

func newMember(name string, seed byte) (member, error) {
	var bytes [ed25519.SeedSize]byte
	bytes[0] = seed
	key := ed25519.NewKeyFromSeed(bytes[:])
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return member{name, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}, err
}

func newMembers(t testing.TB, names ...string) []member {
	t.Helper()
	var list []member
	for i, name := range names {
		m, err := newMember(name, byte(i))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
	}
	return list
}

// whose says which member a certificate's key is.
func whose(members []member, certs []*x509.Certificate) (string, bool) {
	for _, m := range members {
		if len(certs) > 0 && m.cert.PrivateKey.(ed25519.PrivateKey).Public().(ed25519.PublicKey).Equal(certs[0].PublicKey) {
			return m.name, true
		}
	}
	return "", false
}

func serverTLS(self member) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{self.cert}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"h2"}}
}

func caller(members []member) func(*http.Request) (string, bool) {
	return func(r *http.Request) (string, bool) {
		if r.TLS == nil {
			return "", false
		}
		return whose(members, r.TLS.PeerCertificates)
	}
}

// client reaches one member, and only that one.
func client(self member, members []member, to string) *http.Client {
	return &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{self.cert}, InsecureSkipVerify: true, // the key is checked below
		VerifyConnection: func(state tls.ConnectionState) error {
			if name, ok := whose(members, state.PeerCertificates); !ok || name != to {
				return errors.New("this is another node")
			}
			return nil
		},
	}}}
}

// countedListener counts what passes over its connections.
type countedListener struct {
	net.Listener
	bytes *atomic.Int64
}

func (l countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return countedConn{conn, l.bytes}, err
}

type countedConn struct {
	net.Conn
	bytes *atomic.Int64
}

func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.bytes.Add(int64(n))
	return n, err
}
