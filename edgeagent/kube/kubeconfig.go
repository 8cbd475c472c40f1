package kube

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// Config is the part of a kubeconfig that its current context names. Files are absolute paths.
type Config struct {
	Server     *url.URL
	ServerName string // to expect in the server's certificate instead of the URL's host
	Proxy      *url.URL
	CA         Material
	Cert, Key  Material
	Token      Material
}

// Material is a credential or certificate, given inline or as a file that may be replaced at any time.
type Material struct {
	Data []byte
	File string
}

// Set says whether there is one.
func (m Material) Set() bool { return len(m.Data) > 0 || m.File != "" }

// Read gives the material as it is now.
func (m Material) Read() ([]byte, error) {
	if m.File == "" {
		return m.Data, nil
	}
	return os.ReadFile(m.File)
}

// file is the kubeconfig format, as far as it is used here.
type file struct {
	CurrentContext string `json:"current-context"`
	Contexts       []struct {
		Name    string `json:"name"`
		Context struct {
			Cluster string `json:"cluster"`
			User    string `json:"user"`
		} `json:"context"`
	} `json:"contexts"`
	Clusters []struct {
		Name    string  `json:"name"`
		Cluster cluster `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		Name string `json:"name"`
		User user   `json:"user"`
	} `json:"users"`
}

type cluster struct {
	Server        string `json:"server"`
	TLSServerName string `json:"tls-server-name,omitempty"`
	Insecure      bool   `json:"insecure-skip-tls-verify,omitempty"`
	CA            string `json:"certificate-authority,omitempty"`
	CAData        []byte `json:"certificate-authority-data,omitempty"`
	ProxyURL      string `json:"proxy-url,omitempty"`
}

type user struct {
	Cert      string `json:"client-certificate,omitempty"`
	CertData  []byte `json:"client-certificate-data,omitempty"`
	Key       string `json:"client-key,omitempty"`
	KeyData   []byte `json:"client-key-data,omitempty"`
	Token     string `json:"token,omitempty"`
	TokenFile string `json:"tokenFile,omitempty"`
	Exec      any    `json:"exec,omitempty"`
	Provider  any    `json:"auth-provider,omitempty"`
	Username  string `json:"username,omitempty"`
}

// Load reads a kubeconfig. Relative paths in it count from its folder, as everywhere.
func Load(path string) (Config, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read kubeconfig: %w", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return Config{}, err
	}
	c, err := parse(raw, filepath.Dir(abs))
	if err != nil {
		return Config{}, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return c, nil
}

func parse(raw []byte, dir string) (Config, error) {
	var f file
	if err := yaml.Unmarshal(raw, &f); err != nil {
		return Config{}, fmt.Errorf("not a kubeconfig: %w", err)
	}
	cl, u, err := f.current()
	if err != nil {
		return Config{}, err
	}
	if err := u.check(); err != nil {
		return Config{}, err
	}
	c := Config{ServerName: cl.TLSServerName}
	if c.Server, err = url.Parse(cl.Server); err != nil || c.Server.Scheme != "https" || c.Server.Host == "" {
		return Config{}, fmt.Errorf("server %q is not an https URL", cl.Server)
	}
	if cl.Insecure {
		return Config{}, errors.New("insecure-skip-tls-verify is set: name the cluster's CA in certificate-authority instead")
	}
	if cl.ProxyURL != "" {
		if c.Proxy, err = url.Parse(cl.ProxyURL); err != nil {
			return Config{}, fmt.Errorf("proxy-url: %w", err)
		}
	}
	material := func(data []byte, name string) Material {
		if len(data) > 0 || name == "" {
			return Material{Data: data}
		}
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return Material{File: name}
	}
	c.CA = material(cl.CAData, cl.CA)
	c.Cert, c.Key = material(u.CertData, u.Cert), material(u.KeyData, u.Key)
	c.Token = material([]byte(u.Token), u.TokenFile)
	return c, nil
}

// current gives the cluster and the user of the current context; a single context needs no name.
func (f *file) current() (cluster, user, error) {
	for _, ctx := range f.Contexts {
		if ctx.Name != f.CurrentContext && !(f.CurrentContext == "" && len(f.Contexts) == 1) {
			continue
		}
		for _, c := range f.Clusters {
			if c.Name != ctx.Context.Cluster {
				continue
			}
			for _, u := range f.Users {
				if u.Name == ctx.Context.User {
					return c.Cluster, u.User, nil
				}
			}
			return cluster{}, user{}, fmt.Errorf("context %q names user %q, which is not there", ctx.Name, ctx.Context.User)
		}
		return cluster{}, user{}, fmt.Errorf("context %q names cluster %q, which is not there", ctx.Name, ctx.Context.Cluster)
	}
	return cluster{}, user{}, fmt.Errorf("there is no context %q", f.CurrentContext)
}

func (u user) check() error {
	switch {
	case u.Exec != nil:
		return errors.New("the user logs in through an exec plugin: give a kubeconfig with a client certificate or a token, as a kubelet has it")
	case u.Provider != nil, u.Username != "":
		return errors.New("the user logs in by auth-provider or password: give a kubeconfig with a client certificate or a token, as a kubelet has it")
	case (u.Cert != "" || len(u.CertData) > 0) != (u.Key != "" || len(u.KeyData) > 0):
		return errors.New("client-certificate and client-key belong together; one is missing")
	case u.Cert == "" && len(u.CertData) == 0 && u.Token == "" && u.TokenFile == "":
		return errors.New("the user has neither a client certificate nor a token")
	}
	return nil
}

// CertificateUser gives the user name that the client certificate stands for, "" if there is no certificate.
func (c Config) CertificateUser() (string, error) {
	if !c.Cert.Set() {
		return "", nil
	}
	raw, err := c.Cert.Read()
	if err != nil {
		return "", fmt.Errorf("read client certificate: %w", err)
	}
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return "", fmt.Errorf("read client certificate: %w", err)
		}
		return cert.Subject.CommonName, nil
	}
	return "", errors.New("the client certificate is not PEM")
}

// Copy gives a kubeconfig that works from any folder: what is a file stays a file, because the kubelet replaces it when
// it rotates its certificate, but by its absolute path; what is inline stays inline.
func (c Config) Copy() ([]byte, error) {
	cl := cluster{Server: c.Server.String(), TLSServerName: c.ServerName, CA: c.CA.File, CAData: c.CA.Data}
	if c.Proxy != nil {
		cl.ProxyURL = c.Proxy.String()
	}
	u := user{Cert: c.Cert.File, CertData: c.Cert.Data, Key: c.Key.File, KeyData: c.Key.Data, TokenFile: c.Token.File, Token: string(c.Token.Data)}
	return yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "node",
		"clusters": []any{map[string]any{"name": "cluster", "cluster": cl}},
		"users":    []any{map[string]any{"name": "node", "user": u}},
		"contexts": []any{map[string]any{"name": "node", "context": map[string]string{"cluster": "cluster", "user": "node"}}},
	})
}

// NodeOf gives N of the user name system:node:N, and whether it is one.
func NodeOf(user string) (string, bool) { return strings.CutPrefix(user, "system:node:") }
