package kubelet

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

const (
	proxy    = "https://127.0.0.1:6440"
	upstream = "https://10.0.0.1:6443"
	kubeadms = `apiVersion: kubelet.config.k8s.io/v1beta1
# as kubeadm wrote it
authentication:
  webhook: {cacheTTL: 0s, enabled: true}
authorization: {mode: Webhook}
kind: KubeletConfiguration
futureField: {a: [1, 2]}   # not known here
rotateCertificates: true   # the default of kubeadm
staticPodPath: /etc/kubernetes/manifests
`
)

// host is a machine with kubeadm's layout.
type host struct {
	t          *testing.T
	dir, state string
	files      Files
}

func newHost(t *testing.T) *host {
	h := &host{t: t, dir: t.TempDir()}
	h.state = filepath.Join(h.dir, "state")
	h.files = Files{Kubeconfig: filepath.Join(h.dir, "etc/kubelet.conf"), Config: filepath.Join(h.dir, "lib/config.yaml"), CertDir: filepath.Join(h.dir, "lib/pki")}
	for _, dir := range []string{h.state, filepath.Dir(h.files.Kubeconfig), h.files.CertDir} {
		h.must(os.MkdirAll(dir, 0o700))
	}
	pem := filepath.Join(h.files.CertDir, "kubelet-client-2026-01-01-00-00-00.pem")
	current := filepath.Join(h.files.CertDir, currentCert)
	h.write(pem, "CERT AND KEY", 0o600)
	h.must(os.Symlink(pem, current))
	h.write(h.files.Kubeconfig, kubeconfig(upstream, current), 0o640)
	h.write(h.files.Config, kubeadms, 0o644)
	h.must(os.Chown(h.files.Config, os.Getuid(), os.Getgid()))
	return h
}

func kubeconfig(server, cert string) string {
	return fmt.Sprintf(`apiVersion: v1
clusters: [{name: default-cluster, cluster: {server: %q}}]
contexts: [{name: default-context, context: {cluster: default-cluster, user: default-auth}}]
current-context: default-context
kind: Config
users: [{name: default-auth, user: {client-certificate: %s, client-key: %s}}]
`, server, cert, cert)
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) write(path, data string, mode fs.FileMode) {
	h.t.Helper()
	h.must(os.WriteFile(path, []byte(data), mode))
	h.must(os.Chmod(path, mode))
}

func (h *host) read(path string) string {
	h.t.Helper()
	raw, err := os.ReadFile(path)
	h.must(err)
	return string(raw)
}

func (h *host) options() Options {
	return Options{State: h.state, Files: h.files, Server: proxy, CA: []byte("LOCAL CA"), Cert: []byte("LOCAL CERT"), Key: []byte("LOCAL KEY")}
}

func (h *host) attach() []string {
	h.t.Helper()
	warnings, err := Attach(h.options())
	h.must(err)
	return warnings
}

// snapshot is every file with its bytes, mode and kind.
func (h *host) snapshot() map[string]string {
	h.t.Helper()
	out := map[string]string{}
	h.must(filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			content, err = os.Readlink(path)
		} else {
			content = h.read(path)
		}
		out[path] = info.Mode().String() + " " + content
		return err
	}))
	return out
}

func (h *host) same(before map[string]string) {
	h.t.Helper()
	after := h.snapshot()
	for path, want := range before {
		if after[path] != want {
			h.t.Errorf("%s:\n%s\nwant\n%s", path, after[path], want)
		}
	}
	for path := range after {
		if _, ok := before[path]; !ok {
			h.t.Errorf("left behind: %s", path)
		}
	}
}

// start does what a kubelet does with its files when it starts, and says whom it talks to and with what.
func (h *host) start() (server, certificate string) {
	h.t.Helper()
	var c struct {
		Rotate bool `json:"rotateCertificates"`
	}
	h.must(yaml.Unmarshal([]byte(h.read(h.files.Config)), &c))
	var k struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
				CA     []byte `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"clusters"`
		Users []struct {
			User struct {
				File string `json:"client-certificate"`
				Data []byte `json:"client-certificate-data"`
				Key  []byte `json:"client-key-data"`
			} `json:"user"`
		} `json:"users"`
	}
	h.must(yaml.Unmarshal([]byte(h.read(h.files.Kubeconfig)), &k))
	server = k.Clusters[0].Cluster.Server
	current := filepath.Join(h.files.CertDir, currentCert)
	switch user := k.Users[0].User; {
	case c.Rotate && exists(current):
		return server, h.read(current)
	case user.Data != nil:
		return server, string(user.Data) + "+" + string(user.Key) + "+" + string(k.Clusters[0].Cluster.CA)
	default:
		return server, h.read(user.File)
	}
}

func (h *host) works() {
	h.t.Helper()
	switch server, cert := h.start(); {
	case server == upstream && cert == "CERT AND KEY":
	case server == proxy && cert == "LOCAL CERT+LOCAL KEY+LOCAL CA":
	default:
		h.t.Errorf("the kubelet talks to %s with %q", server, cert)
	}
}

func TestInAndOut(t *testing.T) {
	h := newHost(t)
	before := h.snapshot()
	if _, err := Read(h.state); !errors.Is(err, ErrNotAttached) {
		t.Fatal(err)
	}
	for range 2 {
		if w := h.attach(); len(w) != 0 {
			t.Errorf("warnings: %q", w)
		}
		if server, _ := h.start(); server != proxy {
			t.Errorf("the kubelet talks to %s", server)
		}
		h.works()
	}
	if got, want := h.read(h.files.Config), strings.Replace(kubeadms, "rotateCertificates: true ", "rotateCertificates: false ", 1); got != want {
		t.Errorf("more than one word changed:\n%s", got)
	}
	if info, err := os.Stat(h.files.Kubeconfig); err != nil || info.Mode() != 0o600 {
		t.Errorf("the kubeconfig has a key in it, and the mode %v, %v", info.Mode(), err)
	}
	at, err := Read(h.state)
	if err != nil || !at.Done || !at.Rotated || at.Server != proxy || at.Kubeconfig != h.files.Kubeconfig || h.read(at.Original) != kubeconfig(upstream, filepath.Join(h.files.CertDir, currentCert)) {
		t.Errorf("%+v, %v", at, err)
	}
	if problems, err := Check(h.options()); err != nil || len(problems) != 0 {
		t.Errorf("%q, %v", problems, err)
	}
	notes, err := Detach(h.state, Renewed{}, nil)
	if err != nil || len(notes) != 0 {
		t.Fatalf("%q, %v", notes, err)
	}
	h.same(before)
	if _, err := Detach(h.state, Renewed{}, nil); !errors.Is(err, ErrNotAttached) {
		t.Fatal(err)
	}
}

// killedAt runs f and ends it at the nth step, as a crash would.
func killedAt(n int, f func(step func(string)) error) (killed bool, err error) {
	defer func() {
		if recover() == "killed" {
			killed = true
		}
	}()
	return false, f(func(string) {
		if n--; n == 0 {
			panic("killed")
		}
	})
}

// TestKilledAtEachStep: whenever attaching or detaching is interrupted the kubelet can start, attaching again arrives, and
// detaching puts every byte back.
func TestKilledAtEachStep(t *testing.T) {
	for inner := 0; ; inner++ { // the step of attaching; 0 is none
		attaching := false
		for outer := 0; ; outer++ { // the step of detaching
			h := newHost(t)
			before := h.snapshot()
			var err error
			attaching, err = killedAt(inner, func(step func(string)) error {
				o := h.options()
				o.Step = step
				_, err := Attach(o)
				return err
			})
			h.must(err)
			h.works()
			detaching, err := killedAt(outer, func(step func(string)) error {
				_, err := Detach(h.state, Renewed{}, step)
				return err
			})
			if !errors.Is(err, ErrNotAttached) {
				h.must(err)
			}
			h.works()
			if detaching && (inner+outer)%2 == 0 { // a change of mind
				h.attach()
				if server, _ := h.start(); server != proxy {
					t.Errorf("attached after a crash, the kubelet talks to %s", server)
				}
				h.works()
			}
			if _, err := Detach(h.state, Renewed{}, nil); !errors.Is(err, ErrNotAttached) {
				h.must(err)
			}
			h.same(before)
			if t.Failed() {
				t.Fatalf("killed at step %d of attaching and %d of detaching", inner, outer)
			}
			if outer > 0 && !detaching {
				break
			}
		}
		if inner > 0 && !attaching {
			if inner < 8 {
				t.Fatalf("attaching has only %d steps", inner-1)
			}
			return
		}
	}
}

// TestKilledAndAttachedAgain: attaching that was interrupted goes on.
func TestKilledAndAttachedAgain(t *testing.T) {
	for n := 1; ; n++ {
		h := newHost(t)
		before := h.snapshot()
		killed, err := killedAt(n, func(step func(string)) error {
			o := h.options()
			o.Step = step
			_, err := Attach(o)
			return err
		})
		h.must(err)
		h.attach()
		if server, _ := h.start(); server != proxy {
			t.Fatalf("step %d: the kubelet talks to %s", n, server)
		}
		h.works()
		_, err = Detach(h.state, Renewed{}, nil)
		h.must(err)
		h.same(before)
		if !killed {
			return
		}
	}
}

func TestFilesThatSomebodyElseChanged(t *testing.T) {
	t.Run("configuration edited", func(t *testing.T) {
		h := newHost(t)
		before := h.snapshot()
		h.attach()
		edited := h.read(h.files.Config) + "maxPods: 5\n"
		h.write(h.files.Config, edited, 0o644)
		h.attach()
		notes, err := Detach(h.state, Renewed{}, nil)
		if err != nil || len(notes) != 1 || !strings.Contains(notes[0], "only rotateCertificates") {
			t.Errorf("%q, %v", notes, err)
		}
		before[h.files.Config] = "-rw-r--r-- " + kubeadms + "maxPods: 5\n"
		h.same(before)
	})
	t.Run("configuration and certificate written anew by kubeadm and the kubelet", func(t *testing.T) {
		h := newHost(t)
		h.attach()
		newer := kubeadms + "maxPods: 5\n"
		h.write(h.files.Config, newer, 0o644)
		h.must(os.Symlink(h.files.Config, filepath.Join(h.files.CertDir, currentCert)))
		problems, err := Check(h.options())
		if err != nil || len(problems) != 2 || !strings.Contains(problems[0], "rotateCertificates: true again") || !strings.Contains(problems[1], "there again") {
			t.Errorf("%q, %v", problems, err)
		}
		h.attach()
		h.works()
		_, err = Detach(h.state, Renewed{}, nil)
		h.must(err)
		if h.read(h.files.Config) != newer || exists(h.files.Config+aside) {
			t.Errorf("the newer configuration was lost:\n%s", h.read(h.files.Config))
		}
	})
	t.Run("kubeconfig written anew", func(t *testing.T) {
		h := newHost(t)
		h.attach()
		newer := kubeconfig("https://10.0.0.2:6443", filepath.Join(h.files.CertDir, currentCert))
		h.write(h.files.Kubeconfig, newer, 0o600)
		if problems, err := Check(h.options()); err != nil || len(problems) != 1 || !strings.Contains(problems[0], "does not lead to") {
			t.Errorf("%q, %v", problems, err)
		}
		notes, err := Detach(h.state, Renewed{}, nil)
		if err != nil || len(notes) != 1 || h.read(h.files.Kubeconfig) != newer || exists(h.files.Kubeconfig+aside) {
			t.Errorf("%q, %v: %s", notes, err, h.read(h.files.Kubeconfig))
		}
	})
	t.Run("kubeconfig written anew, attached again", func(t *testing.T) {
		h := newHost(t)
		h.attach()
		newer := kubeconfig("https://10.0.0.2:6443", "x")
		h.write(h.files.Kubeconfig, newer, 0o600)
		h.attach()
		h.works()
		_, err := Detach(h.state, Renewed{}, nil)
		if err != nil || h.read(h.files.Kubeconfig) != newer {
			t.Errorf("%v: %s", err, h.read(h.files.Kubeconfig))
		}
	})
	t.Run("authorities made anew", func(t *testing.T) {
		h := newHost(t)
		before := h.snapshot()
		h.attach()
		o := h.options()
		o.CA = []byte("NEW CA")
		if problems, err := Check(o); err != nil || len(problems) != 1 || !strings.Contains(problems[0], "other certificates") {
			t.Errorf("%q, %v", problems, err)
		}
		_, err := Attach(o)
		h.must(err)
		if !strings.Contains(h.read(h.files.Kubeconfig), base64.StdEncoding.EncodeToString(o.CA)) {
			t.Error("the kubeconfig still has the old authority")
		}
		_, err = Detach(h.state, Renewed{}, nil)
		h.must(err)
		h.same(before)
	})
}

func TestRenewedMeanwhile(t *testing.T) {
	h := newHost(t)
	h.attach()
	now := time.Date(2027, 3, 4, 5, 6, 7, 0, time.UTC)
	notes, err := Detach(h.state, Renewed{PEM: []byte("NEWER"), Now: now}, nil)
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0], "renewed meanwhile") {
		t.Fatalf("%q, %v", notes, err)
	}
	if server, cert := h.start(); server != upstream || cert != "NEWER" {
		t.Errorf("the kubelet talks to %s with %q", server, cert)
	}
	if got := h.read(filepath.Join(h.files.CertDir, "kubelet-client-2027-03-04-05-06-07.pem")); got != "NEWER" {
		t.Error(got)
	}

	// A kubelet that did not renew its certificate, which has expired.
	h = newHost(t)
	h.write(h.files.Config, "kind: KubeletConfiguration\n", 0o644)
	h.must(os.Remove(filepath.Join(h.files.CertDir, currentCert)))
	old := filepath.Join(h.files.CertDir, "kubelet-client-2026-01-01-00-00-00.pem")
	h.write(h.files.Kubeconfig, kubeconfig(upstream, old), 0o600)
	h.attach()
	if at, err := Read(h.state); err != nil || at.Rotated {
		t.Fatalf("%+v, %v", at, err)
	}
	better := func(file string) ([]byte, error) { return []byte(kubeconfig(upstream, file)), nil }
	notes, err = Detach(h.state, Renewed{PEM: []byte("NEWER"), Kubeconfig: better, Now: now}, nil)
	if err != nil || len(notes) != 2 || !strings.Contains(notes[1], "made anew") {
		t.Fatalf("%q, %v", notes, err)
	}
	if server, cert := h.start(); server != upstream || cert != "NEWER" {
		t.Errorf("the kubelet talks to %s with %q", server, cert)
	}
}

// TestOriginalsThatAreGone: somebody removed what had been set aside.
func TestOriginalsThatAreGone(t *testing.T) {
	h := newHost(t)
	h.attach()
	for _, path := range []string{h.files.Kubeconfig, h.files.Config, filepath.Join(h.files.CertDir, currentCert)} {
		h.must(os.Remove(path + aside))
	}
	if _, err := Detach(h.state, Renewed{}, nil); err == nil || !strings.Contains(err.Error(), "kubelet.conf.before-holdfast is gone") {
		t.Errorf("%v", err)
	}
	h.works()
	made := func(file string) ([]byte, error) { return []byte(kubeconfig(upstream, file)), nil }
	if _, err := Detach(h.state, Renewed{PEM: []byte("CERT AND KEY"), Kubeconfig: made}, nil); err != nil {
		t.Fatal(err)
	}
	h.works()
	if server, _ := h.start(); server != upstream || h.read(h.files.Config) != kubeadms {
		t.Errorf("the kubelet talks to %s\n%s", server, h.read(h.files.Config))
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(h *host)
		want    string
	}{
		"no kubeconfig":            {func(h *host) { h.must(os.Remove(h.files.Kubeconfig)) }, "no such file"},
		"no configuration":         {func(h *host) { h.must(os.Remove(h.files.Config)) }, "no such file"},
		"configuration of another": {func(h *host) { h.write(h.files.Config, "kind: KubeProxyConfiguration\n", 0o600) }, `its kind is "KubeProxyConfiguration"`},
		"configuration, not YAML":  {func(h *host) { h.write(h.files.Config, "a: b: c", 0o600) }, "not a kubelet configuration"},
		"configuration, no line": {func(h *host) {
			h.write(h.files.Config, "kind: KubeletConfiguration\n? rotateCertificates\n: true\n", 0o600)
		}, "by hand"},
		"attached by a lost state":  {func(h *host) { h.attach(); h.must(os.Remove(filepath.Join(h.state, Journal))) }, "put " + "%s" + " back in its place first"},
		"set aside by a lost state": {func(h *host) { h.write(h.files.Config+aside, "x", 0o600) }, "whose state was lost"},
		"other files":               {func(h *host) { h.attach(); h.files.CertDir = h.dir }, "detach before"},
		"journal damaged":           {func(h *host) { h.write(filepath.Join(h.state, Journal), "{", 0o600) }, "*.before-holdfast"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			c.prepare(h)
			before := h.snapshot()
			_, err := Attach(h.options())
			want := strings.ReplaceAll(c.want, "%s", h.files.Kubeconfig+aside)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
			h.same(before)
		})
	}
}

// TestOtherLayouts: kubeconfigs behind a link, configurations in JSON or without the field, and no default configuration.
func TestOtherLayouts(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(h *host)
		warning string
	}{
		"link": {func(h *host) {
			real := filepath.Join(h.dir, "real.conf")
			h.must(os.Rename(h.files.Kubeconfig, real))
			h.must(os.Symlink(real, h.files.Kubeconfig))
		}, ""},
		"JSON": {func(h *host) {
			h.write(h.files.Config, `{"kind": "KubeletConfiguration", "rotateCertificates" : true, "maxPods": 9}`, 0o600)
		}, ""},
		"carriage returns": {func(h *host) { h.write(h.files.Config, strings.ReplaceAll(kubeadms, "\n", "\r\n"), 0o600) }, ""},
		"no rotation": {func(h *host) {
			h.write(h.files.Config, "kind: KubeletConfiguration\n", 0o600)
		}, ""},
		"no webhook": {func(h *host) {
			h.write(h.files.Config, "kind: KubeletConfiguration\nauthentication: {webhook: {enabled: false}}\n", 0o600)
		}, "authentication.webhook.enabled: false"},
		"everybody may": {func(h *host) {
			h.write(h.files.Config, "kind: KubeletConfiguration\nauthorization: {mode: AlwaysAllow}\n", 0o600)
		}, "AlwaysAllow"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			c.prepare(h)
			before := h.snapshot()
			warnings := h.attach()
			if (c.warning != "") != (len(warnings) == 1 && strings.Contains(warnings[0], c.warning)) {
				t.Errorf("warnings %q, want %q", warnings, c.warning)
			}
			if server, _ := h.start(); server != proxy {
				t.Errorf("the kubelet talks to %s", server)
			}
			h.works()
			_, err := Detach(h.state, Renewed{}, nil)
			h.must(err)
			h.same(before)
		})
	}
}

// FuzzSetRotate: whatever the text, the edit changes one word or nothing, and undoing it gives the same bytes.
func FuzzSetRotate(f *testing.F) {
	f.Add([]byte(kubeadms))
	f.Add([]byte(`{"kind":"KubeletConfiguration","rotateCertificates":true}`))
	f.Add([]byte("kind: KubeletConfiguration\nrotateCertificates: true\r\nx: \"rotateCertificates: true\""))
	f.Add([]byte("kind: KubeletConfiguration\nx: |\n  rotateCertificates: true\nrotateCertificates: yes\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		off, err := setRotate(slices.Clone(raw), false)
		if err != nil || off == nil {
			return
		}
		on, err := setRotate(off, true)
		if err != nil {
			t.Fatalf("%q became %q, which cannot be undone: %v", raw, off, err)
		}
		c, err := parseConfig(off)
		if err != nil || c.Rotate {
			t.Fatalf("%q became %q", raw, off)
		}
		if d := len(raw) - len(on); d > 12 || d < -12 {
			t.Fatalf("%q became %q", raw, on)
		}
		if bytes.Contains(raw, []byte("rotateCertificates: true")) && !bytes.Contains(raw, []byte("rotateCertificates: true\"")) && bytes.Count(raw, []byte("rotateCertificates")) == 1 && !bytes.Equal(on, raw) {
			t.Fatalf("%q came back as %q", raw, on)
		}
	})
}
