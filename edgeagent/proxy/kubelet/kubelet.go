// Package kubelet puts the kubelet of this host behind the autonomy proxy, and takes it out again. Three of the kubelet's files
// change: its kubeconfig names the proxy and carries a local certificate; its configuration no longer has it renew
// certificates itself; and the certificate it renewed last, which it would prefer to its kubeconfig, is moved aside. What was
// there stays beside each file, and a journal in the state folder says what was done, so that leaving puts every byte
// back. The order of the steps is such that the kubelet can be started after each of them.
package kubelet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	// DefaultConfig and DefaultCertDir are where kubeadm has them.
	DefaultConfig  = "/var/lib/kubelet/config.yaml"
	DefaultCertDir = "/var/lib/kubelet/pki"

	// Journal is the journal's name in the state folder.
	Journal = "kubelet.json"
	// aside is added to the name of a file that was replaced.
	aside = ".before-holdfast"
	// currentCert is the link to the certificate that the kubelet renewed last.
	currentCert = "kubelet-client-current.pem"
)

// ErrNotAttached: this host's kubelet is not behind the proxy.
var ErrNotAttached = errors.New("the kubelet is not behind the proxy")

// Files are the kubelet's.
type Files struct {
	// Kubeconfig is the file that the kubelet is started with as --kubeconfig.
	Kubeconfig string
	// Config is its configuration file; "" means DefaultConfig, which need not be there.
	Config string
	// CertDir is its folder of certificates; "" means DefaultCertDir.
	CertDir string
}

// Options say what the kubelet is to use.
type Options struct {
	// State is the state folder.
	State string
	Files Files
	// Server is the proxy, as a URL.
	Server string
	// CA vouches for the proxy; Cert and Key are the kubelet's for it. All are PEM.
	CA, Cert, Key []byte
	// Step is called before each step that changes anything, in tests.
	Step func(point string)
}

// record is the journal: what was found, and where it is now.
type record struct {
	Done       bool   `json:"done"` // every step was done
	Server     string `json:"server"`
	Files      Files  `json:"files"` // as given, for a second time
	Kubeconfig string `json:"kubeconfig"`
	Config     string `json:"config,omitempty"`  // "" if it was left alone
	Wrote      string `json:"wrote,omitempty"`   // the digest of what was written as Config
	Current    string `json:"current,omitempty"` // "" if there was none
}

// State says what is known of the kubelet's attachment.
type State struct {
	// Files are those it was attached with, Server is the proxy.
	Files  Files
	Server string
	// Kubeconfig is the kubelet's kubeconfig, Original where its own one is meanwhile.
	Kubeconfig, Original string
	// Rotated: the kubelet renewed its certificate itself.
	Rotated bool
	// Done: nothing was interrupted.
	Done bool
}

// Read tells how the kubelet is attached. The error is ErrNotAttached if it is not.
func Read(state string) (State, error) {
	r, err := load(state)
	if err != nil {
		return State{}, err
	}
	return State{
		Files: r.Files, Server: r.Server, Kubeconfig: r.Kubeconfig, Original: State{}.Now(r.Kubeconfig),
		Rotated: r.Wrote != "" || r.Current != "", Done: r.Done,
	}, nil
}

func (f Files) certDir() string {
	if f.CertDir == "" {
		return DefaultCertDir
	}
	return f.CertDir
}

// same tells whether these are the same files, given the defaults.
func (f Files) same(other Files) bool {
	config := func(f Files) string {
		if f.Config == "" {
			return DefaultConfig
		}
		return f.Config
	}
	return f.Kubeconfig == other.Kubeconfig && config(f) == config(other) && f.certDir() == other.certDir()
}

// Absolute gives the files by absolute paths, which mean the same from any folder.
func (f Files) Absolute() (Files, error) {
	for _, path := range []*string{&f.Kubeconfig, &f.Config, &f.CertDir} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return f, err
		}
		*path = abs
	}
	return f, nil
}

// Now gives where a file that was moved aside is meanwhile.
func (State) Now(path string) string {
	if exists(path + aside) {
		return path + aside
	}
	return path
}

func load(state string) (record, error) {
	path := filepath.Join(state, Journal)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, ErrNotAttached
	}
	var r record
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err == nil && r.Kubeconfig == "" {
		err = errors.New("it names no kubeconfig")
	}
	if err != nil {
		return record{}, fmt.Errorf("read %s: %w; what was there before is beside each of the kubelet's files, as *%s", path, err, aside)
	}
	return r, nil
}

func (r record) save(state string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := replace(filepath.Join(state, Journal), append(raw, '\n'), nil, 0o600); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}
