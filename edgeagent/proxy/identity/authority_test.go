package identity

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func authority(t testing.TB, node string) (*Authority, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tls")
	if err := Make(dir, node); err != nil {
		t.Fatal(err)
	}
	a, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a, dir
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if info, err := e.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has the mode %v, %v", e.Name(), info.Mode(), err)
		}
		out[e.Name()] = string(raw)
	}
	return out
}

// pool gives one that trusts the authority.
func pool(a *Authority) *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(a.CA())
	return p
}

func TestMakeKeepsWhatIsWhole(t *testing.T) {
	_, dir := authority(t, "n1")
	before := files(t, dir)
	if len(before) != 7 {
		t.Errorf("%d files", len(before))
	}
	if err := Make(dir, "n1"); err != nil {
		t.Fatal(err)
	}
	for name, want := range files(t, dir) {
		if before[name] != want {
			t.Errorf("%s was made anew", name)
		}
	}
	// The key of the clients' authority was not kept, nor written anywhere.
	if _, ok := before["client-ca.key"]; ok {
		t.Error("the key of the clients' authority is there")
	}
	for name, changed := range map[string][]string{
		caKey:        {caCert, caKey, serverCert, serverKey}, // as older agents left it
		serverCert:   {caCert, caKey, serverCert, serverKey},
		clientKey:    {clientCACert, clientCert, clientKey},
		clientCACert: {clientCACert, clientCert, clientKey},
	} {
		before := files(t, dir)
		if err := os.WriteFile(filepath.Join(dir, name), []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil {
			t.Errorf("%s is damaged, and nothing was said", name)
		}
		if err := Make(dir, "n1"); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err != nil {
			t.Error(err)
		}
		anew := map[string]bool{}
		for _, n := range changed {
			anew[n] = true
		}
		for n, now := range files(t, dir) {
			if (now != before[n]) != anew[n] {
				t.Errorf("%s was damaged; %s changed: %v", name, n, now != before[n])
			}
		}
	}
	// Another node's name is another kubelet's certificate.
	if err := Make(dir, "n2"); err != nil {
		t.Fatal(err)
	}
	a, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := a.Client()
	if got := commonName(cert); got != "system:node:n2" {
		t.Error(got)
	}
}

func TestServerCertificate(t *testing.T) {
	a, dir := authority(t, "n1")
	verify := func(a *Authority, name string, at time.Time) error {
		_, err := a.server.Load().Leaf.Verify(x509.VerifyOptions{Roots: pool(a), DNSName: name, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		return err
	}
	known := []string{"localhost", "127.0.0.1", "::1", "169.254.64.40", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	for _, name := range known {
		for _, at := range []time.Time{time.Unix(1, 0), time.Now(), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
			if err := verify(a, name, at); err != nil {
				t.Errorf("%s at %v: %v", name, at, err)
			}
		}
	}
	for _, name := range []string{"10.96.0.1", "example.com", "n1"} {
		if verify(a, name, time.Now()) == nil {
			t.Errorf("it holds for %s", name)
		}
	}
	before := files(t, dir)
	if err := a.Cover(netip.MustParseAddr("127.0.0.1"), netip.Addr{}); err != nil || files(t, dir)[serverCert] != before[serverCert] {
		t.Errorf("issued anew for nothing, %v", err)
	}
	if err := a.Cover(netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("::ffff:10.96.0.1"), netip.MustParseAddr("fd00::1")); err != nil {
		t.Fatal(err)
	}
	again, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []*Authority{a, again} {
		if n := len(a.server.Load().Leaf.IPAddresses); n != 5 {
			t.Errorf("%d addresses", n)
		}
		for _, name := range append(known, "10.96.0.1", "fd00::1") {
			if err := verify(a, name, time.Now()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if after := files(t, dir); after[caCert] != before[caCert] || after[serverKey] != before[serverKey] {
		t.Error("more than the certificate was made anew")
	}
}

// TestNeitherForTheOther: a server certificate is no client's, and the other way round, whichever authority is asked.
func TestNeitherForTheOther(t *testing.T) {
	a, _ := authority(t, "n1")
	cert, key := a.Client()
	client, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		leaf  *x509.Certificate
		roots *x509.CertPool
		use   x509.ExtKeyUsage
		fine  bool
	}{
		"client as client":                     {client.Leaf, a.clients, x509.ExtKeyUsageClientAuth, true},
		"client as server":                     {client.Leaf, a.clients, x509.ExtKeyUsageServerAuth, false},
		"client as client of the servers' CA":  {client.Leaf, pool(a), x509.ExtKeyUsageClientAuth, false},
		"server as client":                     {a.server.Load().Leaf, pool(a), x509.ExtKeyUsageClientAuth, false},
		"server as client of the clients' CA":  {a.server.Load().Leaf, a.clients, x509.ExtKeyUsageClientAuth, false},
		"server as server of the clients' CA":  {a.server.Load().Leaf, a.clients, x509.ExtKeyUsageServerAuth, false},
		"server as server of the servers' CA ": {a.server.Load().Leaf, pool(a), x509.ExtKeyUsageServerAuth, true},
	} {
		_, err := c.leaf.Verify(x509.VerifyOptions{Roots: c.roots, CurrentTime: anyTime, KeyUsages: []x509.ExtKeyUsage{c.use}})
		if (err == nil) != c.fine {
			t.Errorf("%s: %v", what, err)
		}
	}
	if client.Leaf.Subject.CommonName != "system:node:n1" || len(client.Leaf.Subject.Organization) != 1 || client.Leaf.Subject.Organization[0] != "system:nodes" {
		t.Errorf("%v", client.Leaf.Subject)
	}
}

// TestServe serves with it and asks as the kubelet: the certificates work in TLS, and HTTP/2 is spoken.
func TestServe(t *testing.T) {
	a, _ := authority(t, "n1")
	who := New(Config{Node: "n1", ClientCAs: a.ClientCAs(), Now: time.Now, Document: func(string) []byte { return nil }})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{TLSConfig: a.ServerTLS(), ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := who.Identify(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		io.WriteString(w, r.Proto+" "+c.Name)
	})}
	go s.ServeTLS(l, "", "")
	defer s.Close()
	cert, key := a.Client()
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		conf *tls.Config
		want string
	}{
		"kubelet":   {&tls.Config{RootCAs: pool(a), Certificates: []tls.Certificate{pair}, Time: func() time.Time { return time.Unix(1, 0) }}, "HTTP/2.0 system:node:n1"},
		"by a name": {&tls.Config{RootCAs: pool(a), Certificates: []tls.Certificate{pair}, ServerName: "kubernetes.default.svc"}, "HTTP/2.0 system:node:n1"},
		"nobody":    {&tls.Config{RootCAs: pool(a)}, "no credential: send the client certificate that holdfast-agent made for this node's kubelet, or a bearer token\n"},
	} {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: c.conf, ForceAttemptHTTP2: true}}
		resp, err := client.Get("https://" + l.Addr().String())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		raw, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		client.CloseIdleConnections()
		if err != nil || string(raw) != c.want {
			t.Errorf("%s: %q, %v", name, raw, err)
		}
	}
}
