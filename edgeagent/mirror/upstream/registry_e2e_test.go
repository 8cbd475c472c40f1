//go:build e2e

package upstream

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// authority signs the certificates and the tokens of a test.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, cert: cert, pool: x509.NewCertPool(), dir: t.TempDir()}
	a.pool.AddCert(cert)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a.write(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
	a.write(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	return a
}

func (a *authority) write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// token is one as docker-registry believes it.
func (a *authority) token(t *testing.T, repository string, actions ...string) string {
	t.Helper()
	part := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	now := time.Now().Unix()
	text := part(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(a.cert.Raw)}}) + "." +
		part(map[string]any{"iss": "test", "aud": "registry", "exp": now + 300, "nbf": now - 300, "iat": now, "jti": "1",
			"access": []any{map[string]any{"type": "repository", "name": repository, "actions": actions}}})
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, a.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// process is Debian's docker-registry.
type process struct {
	cmd  *exec.Cmd
	host string
}

// start runs it with a part of its configuration about authentication. address may be "127.0.0.1:0".
func (a *authority) start(t *testing.T, address, storage, auth string) *process {
	t.Helper()
	config := a.write(t, "config.yml", fmt.Appendf(nil, `version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}}
http: {addr: %q, tls: {certificate: %q, key: %q}}
%s
`, storage, address, filepath.Join(a.dir, "cert.pem"), filepath.Join(a.dir, "key.pem"), auth))
	p := &process{cmd: exec.Command("docker-registry", "serve", config)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start docker-registry (Debian's package of that name): %v", err)
	}
	t.Cleanup(p.kill)
	found := make(chan string, 1)
	go func() {
		lines, listening := bufio.NewScanner(out), regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)
		for lines.Scan() {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				found <- m[1]
			}
		}
		close(found)
	}()
	select {
	case p.host = <-found:
	case <-time.After(30 * time.Second):
	}
	if p.host == "" {
		t.Fatal("docker-registry does not listen")
	}
	return p
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait() // it was killed, and says so
}

// image is what the tests push: a layer, a manifest with a tag, and a list of what refers to it, under the fallback tag.
type image struct {
	layer, raw []byte
}

func (m image) digest() oci.Digest { return oci.SHA256.FromBytes(m.raw) }

// push uploads it with an Authorization header.
func (a *authority) push(t *testing.T, host, authorization string) image {
	t.Helper()
	m := image{layer: bytes.Repeat([]byte("layer "), 200_000)}
	m.raw = manifestOf(m.layer)
	do := func(method, target, contentType string, body []byte) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, target, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", authorization)
		req.Header.Set("Content-Type", contentType)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.pool}, DisableKeepAlives: true}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if said, _ := io.ReadAll(resp.Body); resp.StatusCode >= 300 {
			t.Fatalf("%s %s: %d %s", method, target, resp.StatusCode, said)
		}
		return resp
	}
	base := "https://" + host + "/v2/team/app"
	for _, data := range [][]byte{m.layer, []byte("{}")} {
		location, err := url.Parse(do("POST", base+"/blobs/uploads/", "", nil).Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		query := location.Query()
		query.Set("digest", oci.SHA256.FromBytes(data).String())
		location.RawQuery = query.Encode()
		do("PUT", location.String(), "application/octet-stream", data)
	}
	for i := range 5 {
		do("PUT", fmt.Sprintf("%s/manifests/v%d", base, i), oci.MediaTypeManifest, m.raw)
	}
	list := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"artifactType":"a/sig"}]}`,
		oci.MediaTypeIndex, oci.MediaTypeManifest, m.digest(), len(m.raw))
	do("PUT", base+"/manifests/"+m.digest().ReferrersTag(), oci.MediaTypeIndex, list)
	return m
}

// TestDockerRegistry reads all there is from Debian's docker-registry: open, behind passwords, behind a token server.
func TestDockerRegistry(t *testing.T) {
	ann := Credential{Username: "ann", Password: "secret"}
	hash, err := bcrypt.GenerateFromPassword([]byte(ann.Password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		auth    func(t *testing.T, a *authority) (config, tokenHost string)
		cred    Credential
		push    func(t *testing.T, a *authority) string
		private bool
	}{
		{name: "open", auth: func(*testing.T, *authority) (string, string) { return "", "" }, push: func(*testing.T, *authority) string { return "" }},
		{name: "htpasswd", cred: ann, private: true, auth: func(t *testing.T, a *authority) (string, string) {
			return fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}", a.write(t, "htpasswd", []byte("ann:"+string(hash)+"\n"))), ""
		}, push: func(*testing.T, *authority) string { return basic(ann) }},
		{name: "token", cred: ann, private: true, auth: func(t *testing.T, a *authority) (string, string) {
			server, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if user, password, _ := r.BasicAuth(); user != ann.Username || password != ann.Password {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				scope := strings.Split(r.URL.Query().Get("scope"), ":")
				json.NewEncoder(w).Encode(map[string]any{"token": a.token(t, scope[1], strings.Split(scope[2], ",")...)})
			})
			a.pool.AddCert(server.Certificate())
			return fmt.Sprintf("auth: {token: {realm: %q, service: registry, issuer: test, rootcertbundle: %q}}", server.URL, filepath.Join(a.dir, "cert.pem")), host(server)
		}, push: func(t *testing.T, a *authority) string { return "Bearer " + a.token(t, "team/app", "pull", "push") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAuthority(t)
			config, tokenHost := test.auth(t, a)
			p := a.start(t, "127.0.0.1:0", t.TempDir(), config)
			m := a.push(t, p.host, test.push(t, a))
			cfg := Config{Name: "registry.test", Host: p.host, CA: a.pool, Credentials: test.cred, Connect: time.Minute, Log: discardLog()}
			if tokenHost != "" {
				cfg.Hosts = []string{tokenHost}
			}
			r, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			readAll(t, r, m)
			if !test.private {
				return
			}
			for _, cred := range []Credential{{}, {Username: "ann", Password: "guess"}} {
				_, err := r.As(cred).Head(t.Context(), "team/app", "v0")
				wantKind(t, err, Unauthorized)
			}
		})
	}
}

// readAll uses every method against a real registry.
func readAll(t *testing.T, r *Registry, m image) {
	t.Helper()
	ctx, layer := t.Context(), oci.SHA256.FromBytes(m.layer)
	if d, err := r.Head(ctx, "team/app", "v1"); err != nil || d.Digest != m.digest() || d.Size != int64(len(m.raw)) || d.MediaType != oci.MediaTypeManifest {
		t.Errorf("head: %+v, %v", d, err)
	}
	for _, reference := range []string{"v1", m.digest().String()} {
		if got, err := r.Manifest(ctx, "team/app", reference); err != nil || string(got.Raw) != string(m.raw) {
			t.Errorf("manifest %s: %v", reference, err)
		}
	}
	for _, from := range []int64{0, 1, 1_000_000, int64(len(m.layer)) - 1} {
		if got, err := readBlob(r, layer, int64(len(m.layer)), from); err != nil || !bytes.Equal(got, m.layer[from:]) {
			t.Errorf("blob from %d: %d bytes, %v", from, len(got), err)
		}
	}
	if got, err := readBlob(r, layer, -1, 7); err != nil || !bytes.Equal(got, m.layer[7:]) {
		t.Errorf("blob of unknown size: %d bytes, %v", len(got), err)
	}
	if size, err := r.BlobSize(ctx, "team/app", layer); err != nil || size != int64(len(m.layer)) {
		t.Errorf("size: %d, %v", size, err)
	}
	tags, more, err := r.Tags(ctx, "team/app", "v1", 2)
	if err != nil || !more || strings.Join(tags, " ") != "v2 v3" {
		t.Errorf("tags: %v, more: %v, %v", tags, more, err)
	}
	list, err := r.Referrers(ctx, "team/app", m.digest(), "a/sig")
	if err != nil || len(list) != 1 || list[0].Digest != m.digest() {
		t.Errorf("referrers: %+v, %v", list, err)
	}
	missing := oci.SHA256.FromBytes([]byte("missing"))
	_, err = r.Manifest(ctx, "team/app", missing.String())
	wantKind(t, err, NotFound)
	_, err = r.Blob(ctx, "team/app", missing, -1, 0)
	wantKind(t, err, NotFound)
	if _, err = r.Head(ctx, "team/other", "v1"); !errors.Is(err, NotFound) {
		t.Errorf("another repository: %v", err)
	}
}

// TestDockerRegistryStops: one that hangs is waited for, one that is gone is known at once, and it is found again.
func TestDockerRegistryStops(t *testing.T) {
	a, storage := newAuthority(t), t.TempDir()
	p := a.start(t, "127.0.0.1:0", storage, "")
	m := a.push(t, p.host, "")
	r, err := New(Config{Name: "registry.test", Host: p.host, CA: a.pool, Connect: 10 * time.Second, Log: discardLog()})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, kept := range []bool{false, true} {
		if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(2*time.Second, func() { p.cmd.Process.Signal(syscall.SIGCONT) })
		if d := took(func() { _, err = r.Manifest(t.Context(), "team/app", "v1") }); err != nil || d < time.Second {
			t.Errorf("kept=%v: a registry that hangs for 2 s: %v after %v", kept, err, d)
		}
	}
	p.kill()
	if d := took(func() { _, err = r.Manifest(t.Context(), "team/app", "v1") }); !errors.Is(err, Unavailable) || d > time.Second {
		t.Errorf("a registry that is gone: %v after %v", err, d)
	}
	a.start(t, p.host, storage, "")
	r.Retry()
	readAll(t, r, m)
}

// TestKernelBlackHole is the promise about a miss, with a kernel that swallows packets: by name, where DNS is gone too, and by address.
func TestKernelBlackHole(t *testing.T) {
	if os.Getenv(blackHole) == "" {
		script := `ip link set lo up && ip link add out type veth peer name gone && ip link set gone up && ip link set out arp off up &&
ip address add 192.0.2.1/24 dev out && ip route add default dev out && exec "$0" -test.run '^TestKernelBlackHole$' -test.v`
		child := exec.CommandContext(t.Context(), "unshare", "--net", "sh", "-c", script, os.Args[0])
		child.Env = append(os.Environ(), blackHole+"=1")
		out, err := child.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
			t.Fatalf("in the black hole: %v\n%s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "a miss") {
				t.Log(strings.TrimSpace(line))
			}
		}
		return
	}
	for _, where := range []string{"192.0.2.99:5000", "registry.example"} {
		first, second := time.Hour, time.Hour
		for range 3 { // a busy machine may add to one
			r, err := New(Config{Name: "registry.test", Host: where, Log: discardLog()})
			if err != nil {
				t.Fatal(err)
			}
			first = min(first, took(func() { wantKind(t, getManifest(r), Unavailable) }))
			second = min(second, took(func() { wantKind(t, getManifest(r), Unavailable) }))
			r.Close()
		}
		t.Logf("%s: a miss took %v, the next %v", where, first.Round(time.Millisecond), second.Round(time.Microsecond))
		if first > time.Second || second > 50*time.Millisecond {
			t.Errorf("%s: too long", where)
		}
		if where[0] == '1' && first < 500*time.Millisecond {
			t.Errorf("%s: known after %v: this is no black hole", where, first)
		}
	}
}
