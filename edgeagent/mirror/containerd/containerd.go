// Package containerd has containerd ask the mirror before it asks a registry, and undoes that. It writes certs.d/*/hosts.toml, which
// containerd 1.6, 1.7 and 2.x read at every pull, without being restarted. What an administrator wrote there stays in force behind the
// mirror, lies beside each file meanwhile, and comes back byte for byte; a journal in the state folder says what was done. The package
// also reads containerd's configuration, to say where that folder is, or what is missing for containerd to look at any.
package containerd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

const (
	// DefaultConfig is containerd's configuration, DefaultDir the folder that Debian, kubeadm and most others give as config_path.
	DefaultConfig = "/etc/containerd/config.toml"
	DefaultDir    = "/etc/containerd/certs.d"

	// Journal is the journal's name in the state folder.
	Journal = "containerd.json"

	hostsFile = "hosts.toml"
	// aside is added to the name of a file whose place was taken.
	aside = ".before-holdfast"
)

// Registry is a registry whose pulls go to the mirror.
type Registry struct {
	// Name is what images call it: "docker.io", "registry.example:5000".
	Name string
	// Only: nothing else is asked, whatever hosts.toml says and not even the registry itself, since something of it must be signed.
	// containerd knows no smaller unit than a registry.
	Only bool
}

// Options say what containerd is to use.
type Options struct {
	// State is the agent's state folder.
	State string
	// Dirs are the folders of config_path, as Find gives them. The first one is written to.
	Dirs []string
	// Mirror is the mirror, as an https URL without a path. CA is the file with the certificate that vouches for it, by its absolute path.
	Mirror, CA string
	Registries []Registry
	// Step is called before each step that changes anything, in tests.
	Step func(point string)
}

// record is the journal.
type record struct {
	Files []file `json:"files"`
	// Made are the folders that were made, outer ones first.
	Made []string `json:"made,omitempty"`
}

// file is one hosts.toml.
type file struct {
	Registry string `json:"registry"`
	Path     string `json:"path"`
	// Had: there was one, and it is set aside.
	Had  bool `json:"had,omitempty"`
	Only bool `json:"only,omitempty"`
	// Wrote is the digest of what is written, Was of what we wrote before, which is there until it is.
	Wrote string `json:"wrote"`
	Was   string `json:"was,omitempty"`
}

// wrote tells whether a text is ours, unchanged.
func (f file) wrote(text []byte) bool { d := digest(text); return d == f.Wrote || d == f.Was }

func load(state string) (record, error) {
	path := filepath.Join(state, Journal)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	var r record
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read journal %s: %w; what it told of lies beside each hosts.toml as hosts.toml%s", path, err, aside)
	}
	return r, nil
}

// save keeps the journal. One that says nothing goes.
func (r record) save(state string) error {
	path := filepath.Join(state, Journal)
	if len(r.Files) == 0 && len(r.Made) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return durable.SyncDir(state)
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(raw, '\n'))
}

// index finds what is known of a file, or -1.
func (r *record) index(path string) int {
	return slices.IndexFunc(r.Files, func(f file) bool { return f.Path == path })
}

func (o Options) check() error {
	if len(o.Dirs) == 0 || !filepath.IsAbs(o.Dirs[0]) {
		return fmt.Errorf("containerd's folder of hosts must be an absolute path, not %q: give config_path in its configuration, as in %s", o.Dirs, DefaultDir)
	}
	u, err := url.Parse(o.Mirror)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" || strings.ContainsAny(o.Mirror, "\"'\\\n") {
		return fmt.Errorf("the mirror %q is no https URL without a path", o.Mirror)
	}
	if !filepath.IsAbs(o.CA) {
		return fmt.Errorf("the mirror's certificate must be given by an absolute path, not %q", o.CA)
	}
	for _, r := range o.Registries {
		if err := oci.CheckRegistry(r.Name); err != nil {
			return err
		}
	}
	return nil
}

// names are the names that a registry's folder may have; containerd takes the first one that is there.
func names(registry string) []string {
	if i := strings.LastIndexByte(registry, ':'); i > 0 {
		return []string{registry[:i] + "_" + registry[i+1:] + "_", registry}
	}
	return []string{registry}
}

// place finds the file to write for a registry, and the folder whose settings are in force for it, which may be another one, or "".
// Folders that count as absent are passed over.
func (o Options) place(registry string, absent func(dir string) bool) (path, inForce string, err error) {
	dir := filepath.Join(o.Dirs[0], names(registry)[0])
	for i, root := range o.Dirs {
		for _, name := range append(names(registry), "_default") {
			found, err := realPath(filepath.Join(root, name))
			if err != nil {
				return "", "", err
			}
			info, err := os.Stat(found)
			switch {
			case errors.Is(err, fs.ErrNotExist) || err == nil && absent(found):
				continue
			case err != nil:
				return "", "", err
			case !info.IsDir():
				return "", "", fmt.Errorf("%s is no folder, so containerd cannot pull from %s at all: remove it", found, registry)
			case i == 0 && name != "_default":
				dir = found
			}
			dir, err = realPath(dir)
			return filepath.Join(dir, hostsFile), found, err
		}
	}
	dir, err = realPath(dir)
	return filepath.Join(dir, hostsFile), "", err
}

// onlyOurs tells whether a folder was made for our file and has nothing else in it.
func (r *record) onlyOurs(dir string) bool {
	if !slices.Contains(r.Made, dir) {
		return false
	}
	entries, err := os.ReadDir(dir)
	return err == nil && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !strings.HasPrefix(e.Name(), hostsFile) })
}

// realPath follows links, also to what is not there yet.
func realPath(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) || filepath.Dir(path) == path {
		return real, err
	}
	dir, err := realPath(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
}
