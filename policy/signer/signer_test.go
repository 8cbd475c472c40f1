package signer_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/holdfast-dev/holdfast/policy/signer"
	"github.com/holdfast-dev/holdfast/policy/verify"
)

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func newKey(t *testing.T) (ed25519.PrivateKey, ssh.PublicKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return private, key
}

// keygen has ssh-keygen make a key, and gives its file. One round of key derivation is enough for a test.
func keygen(t *testing.T, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", append([]string{"-q", "-a", "1", "-f", file}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	return file
}

func public(t *testing.T, file string) ssh.PublicKey {
	t.Helper()
	data, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// startAgent serves ssh-agent's protocol on a socket.
func startAgent(t *testing.T, keys ...any) string {
	t.Helper()
	ring := agent.NewKeyring()
	for _, k := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: k}); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "hf") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		os.RemoveAll(dir)
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = agent.ServeAgent(ring, conn) // ends with the conversation
			}()
		}
	}()
	return socket
}

func TestPassphrase(t *testing.T) {
	file := keygen(t, "-t", "ed25519", "-N", "sesame")
	for name, c := range map[string]struct {
		ask  func(string) ([]byte, error)
		want string
	}{
		"right":   {func(string) ([]byte, error) { return []byte("sesame"), nil }, ""},
		"wrong":   {func(string) ([]byte, error) { return []byte("open"), nil }, "decryption password incorrect"},
		"nobody":  {nil, "there is no terminal to ask on"},
		"no word": {func(string) ([]byte, error) { return nil, errors.New("interrupted") }, "ask for its passphrase: interrupted"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := signer.Open(signer.Config{File: file, Passphrase: c.ask})
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil || ssh.FingerprintSHA256(s.PublicKey()) != ssh.FingerprintSHA256(public(t, file)) {
				t.Fatalf("got %v", err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestAgent signs through ssh-agent, also with RSA, whose signatures must not be of SHA-1.
func TestAgent(t *testing.T) {
	private, edKey := newKey(t)
	rsaFile := keygen(t, "-t", "rsa", "-b", "2048", "-N", "")
	pem, err := os.ReadFile(rsaFile)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := ssh.ParseRawPrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	socket := startAgent(t, private, rsaKey)
	for _, key := range []ssh.PublicKey{edKey, public(t, rsaFile)} {
		s, err := signer.Open(signer.Config{File: write(t, "key.pub", ssh.MarshalAuthorizedKey(key)), AgentSocket: socket})
		if err != nil {
			t.Fatal(err)
		}
		line, err := verify.Countersign([]byte("a commit"), "kelp", s)
		if err != nil || !strings.HasPrefix(line, "countersignature ") {
			t.Fatalf("%q, %v", line, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, other := newKey(t)
	_, err = signer.Open(signer.Config{File: write(t, "key.pub", ssh.MarshalAuthorizedKey(other)), AgentSocket: socket})
	if err == nil || !strings.Contains(err.Error(), "ssh-agent does not hold "+ssh.FingerprintSHA256(other)) {
		t.Fatalf("a key the agent does not hold: %v", err)
	}
	_, err = signer.Open(signer.Config{File: write(t, "key.pub", ssh.MarshalAuthorizedKey(other)), AgentSocket: socket + "-gone"})
	if err == nil || !strings.Contains(err.Error(), "reach ssh-agent") {
		t.Fatalf("no agent: %v", err)
	}
}

// TestRSAFile signs with an RSA key from a file.
func TestRSAFile(t *testing.T) {
	s, err := signer.Open(signer.Config{File: keygen(t, "-t", "rsa", "-b", "2048", "-N", "")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := verify.Countersign([]byte("a commit"), "kelp", s); err != nil {
		t.Fatal(err)
	}
}

func TestWeakKey(t *testing.T) {
	_, err := signer.Open(signer.Config{File: keygen(t, "-t", "rsa", "-b", "1024", "-N", "")})
	if err == nil || !strings.Contains(err.Error(), "1024 bits: at least 2048") {
		t.Fatalf("got %v", err)
	}
}
