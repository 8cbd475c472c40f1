//go:build e2e

package images_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/images"
	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/test/cosign"
)

var update = flag.Bool("update", false, "write "+cosignMadeFile+" from what the real cosign signs")

// command is the real cosign with a folder of keys.
type command struct {
	t    *testing.T
	path string
	dir  string
	env  []string
}

func startCosign(t *testing.T) *command {
	t.Helper()
	path, err := cosign.Command(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// No network but this machine: whatever else it asked for would fail.
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "COSIGN_PASSWORD=secret", "COSIGN_EXPERIMENTAL=1", "HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1"}
	return &command{t, path, dir, env}
}

// run runs cosign in the folder of keys.
func (c *command) run(args ...string) error {
	cmd := exec.CommandContext(c.t.Context(), c.path, args...)
	cmd.Dir, cmd.Env = c.dir, c.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	return nil
}

func (c *command) must(args ...string) {
	c.t.Helper()
	if err := c.run(args...); err != nil {
		c.t.Fatalf("cosign %s: %v", strings.Join(args, " "), err)
	}
}

// sign signs as people do who want no transparency log.
func (c *command) sign(key, image string, flags ...string) {
	c.t.Helper()
	c.must(append(append([]string{"sign", "--yes", "--tlog-upload=false", "--key", key + ".key"}, flags...), image)...)
}

// generate makes a key pair as cosign does by itself.
func (c *command) generate(name string) {
	c.t.Helper()
	c.must("generate-key-pair", "--output-key-prefix", name)
}

// bring lets cosign import a key that was made elsewhere.
func (c *command) bring(name string, key any) {
	c.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	file := filepath.Join(c.dir, name+".pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.must("import-key-pair", "--key", file, "--output-key-prefix", name)
}

func (c *command) public(names ...string) map[string][]byte {
	c.t.Helper()
	keys := map[string][]byte{}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(c.dir, name+".pub"))
		if err != nil {
			c.t.Fatal(err)
		}
		keys[name] = data
	}
	return keys
}

// verdict asks our check about an image of the registry.
func (r *registry) verdict(tr *trust.Trust, digest string) (images.Verdict, error) {
	return images.Verify(r.t.Context(), images.Request{Trust: tr, Repository: r.name(), Digest: digest, Store: r})
}

func (r *registry) name() string { return r.host + "/" + r.repo }

func (r *registry) allowed(tr *trust.Trust, digest string) images.Verdict {
	r.t.Helper()
	v, err := r.verdict(tr, digest)
	if err != nil || !v.Required {
		r.t.Fatalf("got %+v, %v", v, err)
	}
	return v
}

func (r *registry) refused(tr *trust.Trust, digest, reason string) {
	r.t.Helper()
	v, err := r.verdict(tr, digest)
	var refusal *images.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != reason {
		r.t.Fatalf("got %+v, %v, want %s", v, err, reason)
	}
}

// TestCosign signs with the real command in each way it has, at a registry with the referrers API and at one without, and
// compares what it says of the signatures with what we say.
func TestCosign(t *testing.T) {
	c := startCosign(t)
	c.generate("build")
	c.generate("stranger")
	for name, api := range map[string]bool{"referrers API": true, "no referrers API": false} {
		for format, flags := range map[string][]string{
			"tag": nil, "bundle": {"--new-bundle-format"}, "referrer": {"--registry-referrers-mode=oci-1-1"},
		} {
			t.Run(name+", "+format, func(t *testing.T) { c.in(t).formats(startRegistry(t, api), format, flags) })
		}
	}
}

// in is the command for a subtest.
func (c command) in(t *testing.T) *command { c.t = t; return &c }

// formats signs in one way, and has cosign itself judge the same images.
func (c *command) formats(r *registry, format string, flags []string) {
	tr := trustWith(c.t, c.public("build"), trust.Image{Repository: r.host + "/**"})
	one, two, three := r.pushImage("one"), r.pushImage("two"), r.pushImage("three")
	c.sign("build", r.name()+"@"+one, flags...)
	c.sign("stranger", r.name()+"@"+two, flags...)
	if v := r.allowed(tr, one); v.Digest != one || v.Keys[0] != "build" {
		c.t.Fatalf("got %+v", v)
	}
	r.refused(tr, two, images.SignatureInvalid)
	r.refused(tr, three, images.SignatureMissing)
	verify := []string{"verify", "--insecure-ignore-tlog", "--key", "build.pub", "--trusted-root", c.emptyRoot()}
	switch format {
	case "bundle":
		verify = append(verify, "--new-bundle-format")
	case "referrer":
		verify = append(verify, "--experimental-oci11")
	}
	c.must(append(verify, r.name()+"@"+one)...)
	for _, image := range []string{two, three} {
		if c.run(append(verify, r.name()+"@"+image)...) == nil {
			c.t.Fatalf("cosign accepts %s, and we do not", image)
		}
	}
	c.sign("build", r.name()+"@"+two, flags...)
	r.allowed(tr, two)
}

// emptyRoot gives a trusted root that trusts nothing: cosign would fetch one otherwise.
func (c *command) emptyRoot() string {
	c.t.Helper()
	file := filepath.Join(c.dir, "trusted_root.json")
	if err := os.WriteFile(file, encode(object{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return file
}

// TestCosignKinds signs with each kind of key. With -update it keeps what cosign made for TestWhatCosignMade.
func TestCosignKinds(t *testing.T) {
	c := startCosign(t)
	r := startRegistry(t, true)
	made := cosignMade{Keys: map[string]string{}, Images: map[string]string{}, Stored: map[string]map[string]string{}}
	r.record = func(kind, name string, data []byte) {
		if made.Stored[kind] == nil {
			made.Stored[kind] = map[string]string{}
		}
		made.Stored[kind][name] = string(data)
	}
	for name, make := range map[string]func() (any, error){
		"p256":    func() (any, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
		"p384":    func() (any, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
		"p521":    func() (any, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
		"rsa":     func() (any, error) { return rsa.GenerateKey(rand.Reader, 2048) },
		"ed25519": func() (any, error) { _, key, err := ed25519.GenerateKey(rand.Reader); return key, err },
	} {
		key, err := make()
		if err != nil {
			t.Fatal(err)
		}
		c.bring(name, key)
		tr := trustWith(t, c.public(name), trust.Image{Repository: r.name()})
		for _, flags := range [][]string{nil, {"--new-bundle-format"}} {
			image := r.pushImage(name + strings.Join(flags, ""))
			r.refused(tr, image, images.SignatureMissing)
			c.sign(name, r.name()+"@"+image, flags...)
			r.allowed(tr, image)
			made.Images[image] = name
		}
		made.Keys[name] = string(c.public(name)[name])
	}
	if *update {
		if err := os.WriteFile(cosignMadeFile, indented(made), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCosignThresholdAndIndexes(t *testing.T) {
	c := startCosign(t)
	r := startRegistry(t, false)
	c.generate("build")
	c.generate("dba")
	tr := trustWith(t, c.public("build", "dba"), trust.Image{Repository: r.name(), Keys: []string{"build", "dba"}, Threshold: 2})
	amd, arm := r.pushImage("amd64"), r.pushImage("arm64")
	index := r.pushIndex(amd, arm)
	c.sign("build", r.name()+"@"+index)
	r.refused(tr, index, images.TooFewSignatures)
	r.refused(tr, amd, images.TooFewSignatures)
	c.sign("dba", r.name()+"@"+index, "--new-bundle-format")
	for _, image := range []string{index, amd, arm} {
		if v := r.allowed(tr, image); v.Digest != index || strings.Join(v.Keys, "+") != "build+dba" {
			t.Fatalf("got %+v", v)
		}
	}
	r.refused(tr, r.pushImage("riscv64"), images.SignatureMissing)
}

// TestCosignAttestation: what the same key attests of an image does not vouch for it.
func TestCosignAttestation(t *testing.T) {
	c := startCosign(t)
	r := startRegistry(t, true)
	c.generate("build")
	tr := trustWith(t, c.public("build"), trust.Image{Repository: r.name()})
	if err := os.WriteFile(filepath.Join(c.dir, "found.json"), []byte(`{"vulnerabilities": "many"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	image := r.pushImage("one")
	c.must("attest", "--yes", "--tlog-upload=false", "--key", "build.key", "--predicate", "found.json", "--type", "https://example.com/scan", "--new-bundle-format", r.name()+"@"+image)
	r.refused(tr, image, images.SignatureInvalid)
	c.must("attest", "--yes", "--tlog-upload=false", "--key", "build.key", "--predicate", "found.json", "--type", "https://example.com/scan", r.name()+"@"+image)
	r.refused(tr, image, images.SignatureInvalid)
}
