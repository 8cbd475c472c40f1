package source

import (
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"

	"sigs.k8s.io/yaml"
)

// Auth is how to log in to the Git server, and whom to trust on the way. The names in YAML and in a Kubernetes Secret are
// those that GitOps tools agree on. It holds secrets: it prints as which of its fields are set.
type Auth struct {
	// Username and Password log in over HTTPS (basic) or, without Identity, over SSH.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
	// BearerToken logs in over HTTPS with "Authorization: Bearer". A forge's access token usually goes into Password instead.
	BearerToken string `json:"bearerToken,omitempty"`
	// Identity is an SSH private key, PEM or OpenSSH; IdentityPassphrase opens it.
	Identity           string `json:"identity,omitempty"`
	IdentityPassphrase string `json:"identityPassphrase,omitempty"`
	// KnownHosts are the SSH host keys to accept, as in ~/.ssh/known_hosts. SSH needs it: nothing is trusted on first use.
	KnownHosts string `json:"knownHosts,omitempty"`
	// CA are PEM certificates to trust instead of the system's.
	CA string `json:"ca,omitempty"`
	// Proxy is http://…, https:// or socks5://host:port, or "direct". Empty means what HTTPS_PROXY and NO_PROXY of the
	// process say; over SSH: none.
	Proxy string `json:"proxy,omitempty"`
}

// ParseAuth reads an Auth from YAML or JSON; an unknown field is an error.
func ParseAuth(raw []byte) (Auth, error) {
	var a Auth
	if err := yaml.UnmarshalStrict(raw, &a); err != nil {
		return Auth{}, fmt.Errorf("read credentials (username, password, bearerToken, identity, identityPassphrase, knownHosts, ca, proxy): %w", err)
	}
	return a, nil
}

// secret says whether a holds anything that must not travel in the clear. Some forges take a token as the username.
func (a Auth) secret() bool { return a.Username != "" || a.Password != "" || a.BearerToken != "" }

// String names the fields that are set.
func (a Auth) String() string {
	var set []string
	for _, f := range []struct{ name, value string }{
		{"username", a.Username}, {"password", a.Password}, {"bearerToken", a.BearerToken}, {"identity", a.Identity},
		{"identityPassphrase", a.IdentityPassphrase}, {"knownHosts", a.KnownHosts}, {"ca", a.CA}, {"proxy", a.Proxy},
	} {
		if f.value != "" {
			set = append(set, f.name)
		}
	}
	return "{" + strings.Join(set, " ") + "}"
}

// GoString keeps %#v from showing secrets.
func (a Auth) GoString() string { return "source.Auth" + a.String() }

// LogValue keeps secrets out of logs.
func (a Auth) LogValue() slog.Value { return slog.StringValue(a.String()) }

// Validate says what is wrong with the configuration, and what to do.
func (c Config) Validate() error {
	r, err := parseRemote(c.URL)
	if err != nil {
		return err
	}
	if c.Dir == "" {
		return fmt.Errorf("the clone needs a folder")
	}
	if err := checkBranch(c.Branch); err != nil {
		return err
	}
	return c.Auth.fits(r)
}

// fits says whether the credentials can be used with that remote.
func (a Auth) fits(r remote) error {
	switch {
	case a.BearerToken != "" && a.Password != "":
		return fmt.Errorf("credentials have both bearerToken and password: give one")
	case !r.ssh() && a.Identity != "":
		return fmt.Errorf("credentials have an SSH identity, but %s is not an SSH URL", r)
	case r.ssh() && a.KnownHosts == "":
		return fmt.Errorf("SSH needs the host keys of %s in knownHosts: get them out of band, or with ssh-keyscan over a trusted path", r.host())
	case r.ssh() && a.BearerToken != "":
		return fmt.Errorf("a bearerToken does not work over SSH: give an identity or a password")
	case r.ssh() && a.Identity == "" && a.Password == "":
		return fmt.Errorf("SSH needs an identity (a private key) or a password")
	case r.url.Scheme == "http" && a.secret():
		return fmt.Errorf("credentials never travel over plain http: use https for %s", r)
	}
	return nil
}

// remote is a repository's address, taken apart.
type remote struct{ url *url.URL }

func (r remote) ssh() bool      { return r.url.Scheme == "ssh" }
func (r remote) host() string   { return r.url.Hostname() }
func (r remote) String() string { return r.url.String() }

// parseRemote reads https://, http://, ssh:// and user@host:path.
func parseRemote(raw string) (remote, error) {
	if scp, ok := scpLike(raw); ok {
		raw = scp
	}
	u, err := url.Parse(raw)
	if err != nil {
		return remote{}, fmt.Errorf("the repository's URL cannot be read") // err would repeat what may hold a password
	}
	switch u.Scheme {
	case "https", "http":
		if u.User != nil {
			return remote{}, fmt.Errorf("the URL of %s has credentials in it: URLs are logged; put them into the credentials file", u.Host)
		}
	case "ssh":
		if _, has := u.User.Password(); has {
			return remote{}, fmt.Errorf("the URL of %s has a password in it: URLs are logged; put it into the credentials file", u.Host)
		}
	case "file", "":
		return remote{}, fmt.Errorf("%q is a path: Git repositories are read over https, ssh or http only; serve it, or give its URL", raw)
	default:
		return remote{}, fmt.Errorf("%s:// is not supported: use https, ssh or http", u.Scheme)
	}
	if u.Hostname() == "" || strings.Trim(u.Path, "/") == "" {
		return remote{}, fmt.Errorf("%q names no repository: expected a host and a path", raw)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return remote{}, fmt.Errorf("the repository's URL has a query or a fragment: remove it")
	}
	return remote{u}, nil
}

// scpLike turns user@host:path into a URL.
func scpLike(raw string) (string, bool) {
	host, path, ok := strings.Cut(raw, ":")
	if !ok || strings.Contains(host, "/") || strings.HasPrefix(path, "//") || path == "" {
		return "", false
	}
	user, name, ok := strings.Cut(host, "@")
	if !ok || user == "" || name == "" {
		return "", false
	}
	return "ssh://" + user + "@" + name + "/" + strings.TrimPrefix(path, "/"), true
}

// address is host:port.
func (r remote) address() string {
	port := r.url.Port()
	if port == "" {
		port = map[string]string{"ssh": "22", "https": "443", "http": "80"}[r.url.Scheme]
	}
	return net.JoinHostPort(r.host(), port)
}
