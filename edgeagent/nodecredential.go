package edgeagent

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
	"github.com/holdfast-dev/holdfast/edgeagent/kube"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/kubelet"
)

// nodeCredentialFile holds the node's certificate for the API server and its key, once the kubelet no longer has them.
const nodeCredentialFile = "node.pem"

// nodeCredential gives what the agent logs in to the API servers with; nil if that is a token.
func nodeCredential(state string, cfg kube.Config) *identity.Credential {
	if !cfg.Cert.Set() {
		return nil
	}
	own := filepath.Join(state, credentialsDir, nodeCredentialFile)
	if abs, err := filepath.Abs(own); err == nil && abs == cfg.Cert.File {
		return identity.OpenCredential(own)
	}
	return identity.BorrowCredential(func() (cert, key []byte, err error) {
		if cert, err = cfg.Cert.Read(); err == nil {
			key, err = cfg.Key.Read()
		}
		return cert, key, err
	})
}

// takeCredential copies the kubelet's certificate: from now on the agent renews it. A kubeconfig that leads to the proxy has none.
func takeCredential(state, node string, o ProxyOptions) error {
	cfg, err := kube.Load(o.Kubelet.Kubeconfig)
	if err != nil {
		return err
	}
	// It may lead to where the proxy was before.
	at, err := kubelet.Read(state)
	if err != nil && !errors.Is(err, kubelet.ErrNotAttached) {
		return err
	}
	if server := cfg.Server.String(); server == o.server() || server == at.Server {
		return nil
	}
	user, err := cfg.CertificateUser()
	if err != nil {
		return fmt.Errorf("kubeconfig %s: %w", o.Kubelet.Kubeconfig, err)
	}
	if user == "" {
		return fmt.Errorf("kubeconfig %s has a token: the proxy needs the kubelet's client certificate, which it renews from then on; enrol with --proxy=false to leave the kubelet as it is", o.Kubelet.Kubeconfig)
	}
	if own, ok := kube.NodeOf(user); !ok || own != node {
		return fmt.Errorf("kubeconfig %s logs in as %q, not as \"system:node:%s\": give the kubelet's kubeconfig of this node", o.Kubelet.Kubeconfig, user, node)
	}
	return keepCredential(state, cfg)
}

// keepCredential makes what a kubeconfig logs in with the node's own credential.
func keepCredential(state string, cfg kube.Config) error {
	cert, err := cfg.Cert.Read()
	if err != nil {
		return fmt.Errorf("read the kubelet's certificate: %w", err)
	}
	key, err := cfg.Key.Read()
	if err != nil {
		return fmt.Errorf("read the kubelet's key: %w", err)
	}
	file, err := filepath.Abs(filepath.Join(state, credentialsDir, nodeCredentialFile))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := identity.WriteCredential(file, cert, key); err != nil {
		return err
	}
	cfg.Cert, cfg.Key = kube.Material{File: file}, kube.Material{File: file}
	return writeKubeconfig(state, cfg)
}

// behindProxy gives what the agent of an enrolled node logs in with, given a kubeconfig. While its kubelet is behind the proxy the
// kubelet's kubeconfig leads there, and has nothing to offer; another one brings a new credential.
func behindProxy(state string, given *kube.Config) (*kube.Config, error) {
	at, err := kubelet.Read(state)
	if errors.Is(err, kubelet.ErrNotAttached) {
		return given, nil
	}
	if err != nil {
		return nil, err
	}
	if given == nil {
		return nil, errors.New("the kubelet is behind the proxy: run holdfast-agent proxy detach before the node becomes standalone")
	}
	if given.Server.String() != at.Server {
		if !given.Cert.Set() {
			return nil, errors.New("the kubelet is behind the proxy, which needs a client certificate: this kubeconfig has a token")
		}
		if err := keepCredential(state, *given); err != nil {
			return nil, err
		}
	}
	own, err := kube.Load(filepath.Join(state, credentialsDir, kubeconfigFile))
	return &own, err
}

func writeKubeconfig(state string, cfg kube.Config) error {
	raw, err := cfg.Copy()
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(state, credentialsDir, kubeconfigFile), raw)
}

// renewedSince tells whether the node's credential is newer than what the kubelet had, or is all there is.
func renewedSince(state string, at kubelet.State, now time.Time) (kubelet.Renewed, error) {
	file := filepath.Join(state, credentialsDir, nodeCredentialFile)
	own, err := identity.OpenCredential(file).Certificate()
	if err != nil {
		return kubelet.Renewed{}, nil // the kubelet's is all there is
	}
	original, err := kube.Load(at.Original)
	lost := err != nil || original.Server.String() == at.Server
	if lost {
		if original, err = kube.Load(filepath.Join(state, credentialsDir, kubeconfigFile)); err != nil {
			return kubelet.Renewed{}, fmt.Errorf("the kubelet's own kubeconfig is gone, and so is the agent's: %w", err)
		}
	}
	before, err := certificateOf(at, original)
	useless := lost || err != nil || now.After(before.NotAfter)
	older := !lost && err == nil && (before.Equal(own.Leaf) || own.Leaf.NotAfter.Before(before.NotAfter))
	if older || !useless && !at.Rotated {
		return kubelet.Renewed{}, nil
	}
	renewed := kubelet.Renewed{Now: now}
	if renewed.PEM, err = os.ReadFile(file); err != nil {
		return kubelet.Renewed{}, err
	}
	if lost || useless && !at.Rotated {
		renewed.Kubeconfig = func(credential string) ([]byte, error) {
			better := original
			better.Cert, better.Key = kube.Material{File: credential}, kube.Material{File: credential}
			return better.Copy()
		}
	}
	return renewed, nil
}

// certificateOf gives the certificate that the kubelet's own kubeconfig names.
func certificateOf(at kubelet.State, original kube.Config) (*x509.Certificate, error) {
	original.Cert.File = asideOf(at, original.Cert.File)
	raw, err := original.Cert.Read()
	if err != nil {
		return nil, err
	}
	return identity.Certificate(raw)
}

func asideOf(at kubelet.State, file string) string {
	if file == "" {
		return ""
	}
	return at.Now(file)
}
