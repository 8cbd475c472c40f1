// Package signer finds the key a person signs with: an OpenSSH private key in a file, or one that ssh-agent holds. It serves
// people's commands; nodes sign nothing.
package signer

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

// Config says where keys are found.
type Config struct {
	// File is an OpenSSH private key, or a public key (.pub) whose private part ssh-agent holds.
	File string
	// AgentSocket is what SSH_AUTH_SOCK names, or "".
	AgentSocket string
	// Passphrase asks for the passphrase of an encrypted private key. Nil means that nobody can be asked.
	Passphrase func(file string) ([]byte, error)
}

// Signer signs with one key. Close it after use.
type Signer struct {
	ssh.AlgorithmSigner          // RSA must be told not to use SHA-1
	agent               net.Conn // nil for a key from a file
}

// Close ends the conversation with ssh-agent, if there is one.
func (s *Signer) Close() error {
	if s.agent == nil {
		return nil
	}
	return s.agent.Close()
}

// Open finds the key.
func Open(c Config) (*Signer, error) {
	data, err := os.ReadFile(c.File)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	var s *Signer
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN ")) {
		s, err = fromFile(c, data)
	} else {
		s, err = fromAgent(c, data)
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", c.File, err)
	}
	// What allowed_signers refuses would be a signature that never counts.
	if _, err := trust.SignerOf("me", ssh.MarshalAuthorizedKey(s.PublicKey())); err != nil {
		s.Close()
		return nil, fmt.Errorf("key %s: %w", c.File, err)
	}
	return s, nil
}

func fromFile(c Config, data []byte) (*Signer, error) {
	s, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		if c.Passphrase == nil {
			return nil, errors.New("it has a passphrase, and there is no terminal to ask on: ssh-add the key and give its .pub file")
		}
		secret, askErr := c.Passphrase(c.File)
		if askErr != nil {
			return nil, fmt.Errorf("ask for its passphrase: %w", askErr)
		}
		s, err = ssh.ParsePrivateKeyWithPassphrase(data, secret)
	}
	if err != nil {
		return nil, fmt.Errorf("not a private key that can be used here: %w (of a security key give the .pub file, with the key in ssh-agent)", err)
	}
	return newSigner(s, nil)
}

func fromAgent(c Config, data []byte) (*Signer, error) {
	want, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil, errors.New("neither an OpenSSH private key nor a public key")
	}
	if c.AgentSocket == "" {
		return nil, errors.New("a public key is signed with through ssh-agent, and SSH_AUTH_SOCK is not set: start an agent, or give the private key")
	}
	conn, err := net.Dial("unix", c.AgentSocket)
	if err != nil {
		return nil, fmt.Errorf("reach ssh-agent: %w", err)
	}
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("ask ssh-agent for its keys: %w", err)
	}
	for _, s := range signers {
		if bytes.Equal(s.PublicKey().Marshal(), want.Marshal()) {
			return newSigner(s, conn)
		}
	}
	conn.Close()
	return nil, fmt.Errorf("ssh-agent does not hold %s: ssh-add it", ssh.FingerprintSHA256(want))
}

func newSigner(s ssh.Signer, conn net.Conn) (*Signer, error) {
	a, ok := s.(ssh.AlgorithmSigner)
	if !ok {
		return nil, fmt.Errorf("a key of type %s, which cannot sign here", s.PublicKey().Type())
	}
	return &Signer{AlgorithmSigner: a, agent: conn}, nil
}
