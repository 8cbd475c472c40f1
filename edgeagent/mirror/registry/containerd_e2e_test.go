//go:build e2e

package registry_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/containerd"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/registry"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// TestContainerd: a real containerd, asked as the kubelet asks it, pulls from the mirror because of the hosts.toml that is written. The
// registry itself has a name that leads nowhere, so whatever is pulled came from the mirror.
func TestContainerd(t *testing.T) {
	f := &fake{repos: map[string]*repository{
		"app": runnable(t, "", "app"), "vault": runnable(t, "s3cret", "vault"), "later": runnable(t, "", "later"), "unsigned": runnable(t, "", "unsigned"),
	}}
	s := newSite(f)
	s.signed["unsigned"] = errors.New("no signature by release@example.com")
	mirror := httptest.NewTLSServer(s.handler(t))
	defer mirror.Close()
	node := startContainerd(t)
	before := tree(t, node.certsd)

	options := containerd.Options{State: t.TempDir(), Mirror: mirror.URL, CA: filepath.Join(t.TempDir(), "ca.pem"), Registries: []containerd.Registry{{Name: "reg.example"}}}
	block := &pem.Block{Type: "CERTIFICATE", Bytes: mirror.Certificate().Raw}
	if err := os.WriteFile(options.CA, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := containerd.Find(node.config)
	if err != nil || len(found.Problems) != 0 || len(found.Dirs) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	options.Dirs = found.Dirs
	attach := func(only bool) {
		t.Helper()
		options.Registries[0].Only = only
		if _, err := containerd.Attach(options); err != nil {
			t.Fatal(err)
		}
	}
	pulls := func(image, password, want string) {
		t.Helper()
		err := node.pull(image, "alice", password)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("pull %s: %v, want %q", image, err, want)
		}
	}

	const elsewhere = "lookup reg.example"
	pulls("reg.example/app:v1", "", elsewhere) // nobody told containerd of the mirror
	attach(false)
	pulls("reg.example/app:v1", "", "")
	for _, kind := range []registry.Kind{registry.Manifest, registry.Blob} {
		if !served(s, kind, "app") {
			t.Errorf("containerd has the image, and took no %s from the mirror", kind)
		}
	}
	pulls("reg.example/none:v1", "", elsewhere) // a miss: the registry itself is the next to be asked
	pulls("reg.example/vault:v1", "", "401 Unauthorized")
	pulls("reg.example/vault:v1", "guess", "401 Unauthorized")
	pulls("reg.example/vault:v1", "s3cret", "")

	// Only the mirror: what it refuses, or does not have, is asked of nobody else.
	attach(true)
	asked := strings.Count(node.log(t), elsewhere)
	pulls("reg.example/unsigned:v1", "", "403 Forbidden")
	pulls("reg.example/none:v1", "", "not found")
	if now := strings.Count(node.log(t), elsewhere); now != asked || asked == 0 {
		t.Errorf("the registry was asked %d times, and %d times later: what must be signed was pulled around the mirror", asked, now)
	}

	// Cut off: what the mirror has is pulled on.
	handler := s.handler(t)
	later := f.repos["later"]
	paths := []string{"later/manifests/v1" + ns, "later/manifests/" + later.v1().String() + ns}
	for digest := range later.blobs {
		paths = append(paths, "later/blobs/"+digest.String()+ns)
	}
	for _, path := range paths {
		if w := do(t, handler, "GET", path); w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	f.set(func(f *fake) { f.fails = fail(upstream.Unavailable) })
	pulls("reg.example/later:v1", "", "")
	pulls("reg.example/later@"+later.v1().String(), "", "")

	if notes, err := containerd.Detach(options.State, nil); err != nil || len(notes) != 0 {
		t.Errorf("%q, %v", notes, err)
	}
	if after := tree(t, node.certsd); after != before {
		t.Errorf("left behind: %s", after)
	}
	pulls("reg.example/unsigned:v1", "", elsewhere)
	if strings.Contains(s.log.String(), "s3cret") {
		t.Error("the mirror's log has the secret")
	}
}

func served(s *site, kind registry.Kind, repository string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.served {
		if r.Kind == kind && r.Ref.Repository == repository && r.Status == http.StatusOK {
			return true
		}
	}
	return false
}

func tree(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	if err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		out = append(out, path)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

// runnable is a repository with an image that containerd unpacks.
func runnable(t *testing.T, secret, name string) *repository {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(name))}), func() error { _, err := w.Write([]byte(name)); return err }(), w.Close())
	if err != nil {
		t.Fatal(err)
	}
	type object = map[string]any
	config, err := json.Marshal(object{"architecture": "amd64", "os": "linux", "config": object{}, "rootfs": object{"type": "layers", "diff_ids": []string{oci.SHA256.FromBytes(layer.Bytes()).String()}}})
	if err != nil {
		t.Fatal(err)
	}
	describe := func(mediaType string, raw []byte) oci.Descriptor {
		return oci.Descriptor{MediaType: mediaType, Digest: oci.SHA256.FromBytes(raw), Size: int64(len(raw))}
	}
	raw, err := json.Marshal(object{
		"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "config": describe("application/vnd.oci.image.config.v1+json", config),
		"layers": []oci.Descriptor{describe("application/vnd.oci.image.layer.v1.tar", layer.Bytes())},
	})
	if err != nil {
		t.Fatal(err)
	}
	digest := oci.SHA256.FromBytes(raw)
	return &repository{
		secret: secret, tags: map[string]oci.Digest{"v1": digest}, manifests: map[oci.Digest][]byte{digest: raw},
		blobs: map[oci.Digest][]byte{oci.SHA256.FromBytes(config): config, oci.SHA256.FromBytes(layer.Bytes()): layer.Bytes()},
	}
}

// containerdNode is Debian's containerd with folders of its own.
type containerdNode struct {
	config, certsd string
	logged         string // where its log is
	client         *http.Client
}

func startContainerd(t *testing.T) *containerdNode {
	t.Helper()
	program, err := exec.LookPath("containerd")
	if err != nil {
		t.Fatal("containerd is missing: run `make deps` (Debian package containerd)")
	}
	dir, err := os.MkdirTemp("", "mirror") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := &containerdNode{config: filepath.Join(dir, "config.toml"), certsd: filepath.Join(dir, "certs.d"), logged: filepath.Join(dir, "log")}
	if err := os.Mkdir(n.certsd, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "c.sock")
	text := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing"]
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = %q
`, filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket, n.certsd)
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(n.logged)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, "--config", n.config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			said := n.log(t)
			t.Logf("containerd: %s", said[max(0, len(said)-4000):])
		}
	})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	n.client = &http.Client{Transport: &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	t.Cleanup(n.client.CloseIdleConnections)
	for deadline := time.Now().Add(60 * time.Second); ; {
		err := n.call("RuntimeService/Version", nil)
		if err == nil {
			return n
		}
		if time.Now().After(deadline) {
			t.Fatalf("containerd does not come up: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (n *containerdNode) log(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(n.logged)
	if err != nil {
		t.Error(err)
	}
	return string(raw)
}

// call makes a call of the kubelet's protocol, which is gRPC.
func (n *containerdNode) call(method string, message []byte) error {
	body := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	req, err := http.NewRequest(http.MethodPost, "http://containerd/runtime.v1."+method, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	resp, err := n.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	status, said := resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
	if status == "" { // an answer without a body has them in its header
		status, said = resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message")
	}
	if status != "0" {
		said, _ = url.PathUnescape(said)
		return fmt.Errorf("gRPC status %s: %s", status, said)
	}
	return nil
}

// pull has containerd pull an image as the kubelet does, with a pull secret if there is one.
func (n *containerdNode) pull(image, user, password string) error {
	field := func(to []byte, number protowire.Number, value []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(to, number, protowire.BytesType), value)
	}
	message := field(nil, 1, field(nil, 1, []byte(image)))
	if password != "" {
		message = field(message, 2, field(field(nil, 1, []byte(user)), 2, []byte(password)))
	}
	return n.call("ImageService/PullImage", message)
}
