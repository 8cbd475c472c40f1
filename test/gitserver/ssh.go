package gitserver

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// SSHConfig says what to serve over SSH, and to whom.
type SSHConfig struct {
	// Root is the folder with the repositories.
	Root string
	// AuthorizedKey may read.
	AuthorizedKey ssh.PublicKey
	// Password lets in without a key; "" means that keys only do.
	Password string
}

// SSHServer serves git-upload-pack over SSH, in this process.
type SSHServer struct {
	// URL is where Root is served: ssh://git@127.0.0.1:PORT.
	URL string
	// KnownHosts is the line of known_hosts to trust it by.
	KnownHosts string

	root     string
	config   *ssh.ServerConfig
	listener net.Listener
	wait     sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
}

var errRefused = errors.New("refused")

// StartSSH serves. Close the server when done.
func StartSSH(cfg SSHConfig) (*SSHServer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, err
	}
	root, err := filepath.Abs(cfg.Root)
	if err != nil {
		return nil, err
	}
	s := &SSHServer{root: root, conns: map[net.Conn]bool{}, config: &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
			if cfg.AuthorizedKey != nil && string(k.Marshal()) == string(cfg.AuthorizedKey.Marshal()) {
				return nil, nil
			}
			return nil, errRefused
		},
		PasswordCallback: func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
			if cfg.Password != "" && string(p) == cfg.Password {
				return nil, nil
			}
			return nil, errRefused
		},
	}}
	s.config.AddHostKey(signer)
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	addr := s.listener.Addr().String()
	s.URL = "ssh://git@" + addr
	s.KnownHosts = knownhosts.Line([]string{addr}, signer.PublicKey())
	s.wait.Go(s.accept)
	return s, nil
}

// Close ends all connections.
func (s *SSHServer) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wait.Wait()
	return err
}

func (s *SSHServer) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.wait.Go(func() {
			s.serve(c)
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// serve is one connection.
func (s *SSHServer) serve(c net.Conn) {
	defer c.Close()
	_, channels, requests, err := ssh.NewServerConn(c, s.config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for open := range channels {
		if open.ChannelType() != "session" {
			_ = open.Reject(ssh.UnknownChannelType, "sessions only")
			continue
		}
		channel, requests, err := open.Accept()
		if err != nil {
			return
		}
		s.wait.Go(func() { s.session(channel, requests) })
	}
}

// session runs the one command there is.
func (s *SSHServer) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for r := range requests {
		if r.Type != "exec" {
			_ = r.Reply(false, nil)
			continue
		}
		var line struct{ Command string }
		if err := ssh.Unmarshal(r.Payload, &line); err != nil {
			return
		}
		path, ok := strings.CutPrefix(line.Command, "git-upload-pack '")
		_ = r.Reply(ok, nil)
		if !ok {
			return
		}
		code := s.uploadPack(channel, filepath.Join(s.root, filepath.Clean("/"+strings.TrimSuffix(path, "'"))))
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{code}))
		return
	}
}

func (s *SSHServer) uploadPack(channel ssh.Channel, dir string) uint32 {
	cmd := exec.Command("git", "-c", "safe.directory=*", "upload-pack", dir)
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	in, err := cmd.StdinPipe()
	if err != nil {
		return 1
	}
	if err := cmd.Start(); err != nil {
		return 1
	}
	go func() {
		_, _ = io.Copy(in, channel) // ends with the channel or the command
		_ = in.Close()
	}()
	if err := cmd.Wait(); err != nil {
		return 128
	}
	return 0
}
