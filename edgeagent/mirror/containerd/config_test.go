package containerd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	const (
		v2 = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n"
		v3 = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d'\n"
	)
	for name, test := range map[string]struct {
		files    map[string]string
		dirs     []string
		by       string
		problems []string
	}{
		"1.6 and 1.7":      {files: map[string]string{"config.toml": v2}, dirs: []string{DefaultDir}, by: "config.toml"},
		"2.x":              {files: map[string]string{"config.toml": v3}, dirs: []string{DefaultDir}, by: "config.toml"},
		"version 1":        {files: map[string]string{"config.toml": "[plugins.cri.registry]\nconfig_path = \"/x\"\n"}, dirs: []string{"/x"}, by: "config.toml"},
		"version 4":        {files: map[string]string{"config.toml": strings.Replace(v3, "3", "4", 1)}, dirs: []string{DefaultDir}, by: "config.toml"},
		"none":             {problems: []string{"there is no ", "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\""}},
		"empty":            {files: map[string]string{"config.toml": ""}, problems: []string{"[plugins.\"cri\".registry]"}},
		"unset":            {files: map[string]string{"config.toml": "version = 2\n"}, problems: []string{"restart containerd"}},
		"unset to nothing": {files: map[string]string{"config.toml": strings.Replace(v2, DefaultDir, "", 1)}, problems: []string{"is not told"}},
		"unset, 2.x":       {files: map[string]string{"config.toml": "version = 3\n"}, problems: []string{"containerd 2.2 and later", "io.containerd.cri.v1.images"}},
		"wrong plugin":     {files: map[string]string{"config.toml": strings.Replace(v2, "version = 2", "version = 3", 1)}, problems: []string{"must give it for \"io.containerd.cri.v1.images\"", "is not told"}},
		"two folders, 1.x": {files: map[string]string{"config.toml": strings.Replace(v2, DefaultDir, "/a:/b", 1)}, dirs: []string{"/a", "/b"}, by: "config.toml"},
		"two folders, 2.x": {files: map[string]string{"config.toml": strings.Replace(v3, DefaultDir, "/a:/b", 1)}, dirs: []string{"/a", "/b"}, by: "config.toml", problems: []string{"give only /a"}},
		"relative":         {files: map[string]string{"config.toml": strings.Replace(v2, DefaultDir, "certs.d", 1)}, dirs: []string{"certs.d"}, by: "config.toml", problems: []string{"no absolute path"}},
		"mirrors too":      {files: map[string]string{"config.toml": v2 + "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\n"}, dirs: []string{DefaultDir}, by: "config.toml", problems: []string{"loads no CRI plugin"}},
		"mirrors instead":  {files: map[string]string{"config.toml": "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\n"}, problems: []string{"is not told", "move them"}},
		"imported": {files: map[string]string{"config.toml": "version = 2\nimports = [\"conf.d/*.toml\", \"config.toml\"]\n", "conf.d/a.toml": v2},
			dirs: []string{DefaultDir}, by: "conf.d/a.toml"},
		"imported by one that is imported": {files: map[string]string{"config.toml": "version = 3\nimports = [\"a.toml\"]\n", "a.toml": "version = 3\nimports = [\"b/b.toml\"]\n", "b/b.toml": v3},
			dirs: []string{DefaultDir}, by: "b/b.toml"},
		"imported over": {files: map[string]string{"config.toml": v2 + "imports = []\n", "x": ""}, dirs: []string{DefaultDir}, by: "config.toml"},
		"hidden by an import": {files: map[string]string{"config.toml": "imports = [\"a.toml\"]\n" + v2, "a.toml": "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"x\"\n"},
			dirs: []string{DefaultDir}, by: "config.toml", problems: []string{"takes the place"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range test.files {
				path := filepath.Join(dir, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := Find(filepath.Join(dir, "config.toml"))
			if err != nil {
				t.Fatal(err)
			}
			by, _ := strings.CutPrefix(got.By, dir+"/")
			if !slices.Equal(got.Dirs, test.dirs) || by != test.by && len(test.dirs) > 0 {
				t.Errorf("%q by %s, want %q by %s", got.Dirs, by, test.dirs, test.by)
			}
			said := strings.Join(got.Problems, "\n")
			for _, want := range test.problems {
				if !strings.Contains(said, want) {
					t.Errorf("problems %q, want %q", said, want)
				}
			}
			if len(test.problems) == 0 && said != "" {
				t.Errorf("problems %q", said)
			}
		})
	}
	for name, text := range map[string]string{"no TOML": "[", "missing": "imports = [\"none.toml\"]"} {
		path := filepath.Join(t.TempDir(), "config.toml")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Find(path); err == nil || !strings.Contains(err.Error(), ".toml: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
