package containerd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Found is what containerd's configuration says of registries.
type Found struct {
	// Dirs are the folders of config_path. None: containerd reads no hosts.toml, and asks no mirror.
	Dirs []string
	// By is the file that says so.
	By string
	// Problems say what keeps containerd from using them, and what to do about it.
	Problems []string
}

// settings is the part of a configuration that matters here.
type settings struct {
	Version int            `toml:"version"`
	Imports []string       `toml:"imports"`
	Plugins map[string]any `toml:"plugins"`
}

// Where the versions of the configuration have the settings of registries: 1 is containerd's before 1.3, 2 is 1.x's, 3 and later are 2.x's.
const (
	pluginV1 = "cri"
	pluginV2 = "io.containerd.grpc.v1.cri"
	pluginV3 = "io.containerd.cri.v1.images"
)

func (s settings) plugin() string {
	switch s.Version {
	case 0, 1:
		return pluginV1
	case 2:
		return pluginV2
	}
	return pluginV3
}

// Find reads containerd's configuration, with all that it imports. A configuration that is not there is no error: containerd runs
// without one.
func Find(path string) (Found, error) {
	var found Found
	root := settings{Version: 2}
	seen := map[string]bool{}
	var mirrors string
	for pending := []string{path}; len(pending) > 0; {
		file := pending[0]
		pending = pending[1:]
		if seen[file] {
			continue
		}
		seen[file] = true
		s, err := read(file)
		if errors.Is(err, fs.ErrNotExist) && file == path {
			found.unset(path, root)
			found.Problems[0] = fmt.Sprintf("there is no %s: %s", path, found.Problems[0])
			return found, nil
		}
		if err != nil {
			return found, fmt.Errorf("read containerd's configuration: %w", err)
		}
		if file == path {
			root = s
		}
		found.apply(file, s, &mirrors)
		imports, err := s.imports(file)
		if err != nil {
			return found, err
		}
		pending = append(pending, imports...)
	}
	if len(found.Dirs) == 0 {
		found.unset(path, root)
	}
	found.judge(root, mirrors)
	return found, nil
}

func read(path string) (settings, error) {
	var s settings
	raw, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if err := toml.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// imports gives the files that a file imports: relative to it, with wildcards.
func (s settings) imports(file string) ([]string, error) {
	var out []string
	for _, path := range s.Imports {
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(file), path)
		}
		matches := []string{filepath.Clean(path)}
		if strings.Contains(path, "*") {
			var err error
			if matches, err = filepath.Glob(path); err != nil {
				return nil, fmt.Errorf("%s imports %q: %w", file, path, err)
			}
		}
		out = append(out, matches...)
	}
	return out, nil
}

// apply takes over what one file says; later ones win.
func (f *Found) apply(file string, s settings, mirrors *string) {
	section, there := s.Plugins[s.plugin()].(map[string]any)
	registry, _ := section["registry"].(map[string]any)
	path, given := registry["config_path"].(string)
	switch {
	case given:
		f.By, f.Dirs = file, nil
		for dir := range strings.SplitSeq(path, ":") {
			if dir != "" {
				f.Dirs = append(f.Dirs, dir)
			}
		}
	case there && len(f.Dirs) > 0 && s.Version < 3:
		f.Problems = append(f.Problems, fmt.Sprintf("%s takes the place of all that %s says of the plugin, in containerd 1.x: give config_path in %s as well", file, f.By, file))
	}
	if table, ok := registry["mirrors"].(map[string]any); ok && len(table) > 0 {
		*mirrors = file
	}
	for _, other := range []string{pluginV1, pluginV2, pluginV3} {
		section, _ := s.Plugins[other].(map[string]any)
		registry, _ := section["registry"].(map[string]any)
		if wrong, ok := registry["config_path"].(string); ok && wrong != "" && other != s.plugin() {
			f.Problems = append(f.Problems, fmt.Sprintf("%s gives config_path for the plugin %q: a file of version %d must give it for %q", file, other, max(s.Version, 1), s.plugin()))
		}
	}
}

// unset says that no folder is given, and what to write.
func (f *Found) unset(path string, root settings) {
	since := ""
	if root.Version >= 3 {
		since = " (containerd 2.2 and later have a default, earlier ones have none)"
	}
	f.Problems = append(f.Problems, fmt.Sprintf("containerd is not told where hosts.toml files are%s, so it asks no mirror: add these lines to %s and restart containerd:\n[plugins.%q.registry]\n  config_path = %q",
		since, path, root.plugin(), DefaultDir))
}

// judge finds what keeps containerd from using what is given.
func (f *Found) judge(root settings, mirrors string) {
	switch {
	case mirrors != "" && len(f.Dirs) > 0:
		f.Problems = append(f.Problems, fmt.Sprintf("%s has registry.mirrors besides config_path, with which containerd loads no CRI plugin at all: move them to hosts.toml files", mirrors))
	case mirrors != "":
		f.Problems = append(f.Problems, fmt.Sprintf("%s has registry.mirrors, which go together with no config_path: move them to hosts.toml files", mirrors))
	}
	if i := slices.IndexFunc(f.Dirs, func(dir string) bool { return !filepath.IsAbs(dir) }); i >= 0 {
		f.Problems = append(f.Problems, fmt.Sprintf("%s gives the folder %q, which is no absolute path", f.By, f.Dirs[i]))
	}
	if len(f.Dirs) > 1 && root.Version >= 3 {
		f.Problems = append(f.Problems, fmt.Sprintf("%s gives %d folders as config_path, which containerd 2.1 and 2.2 may take for the name of one: give only %s", f.By, len(f.Dirs), f.Dirs[0]))
	}
}
