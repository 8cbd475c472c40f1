package containerd

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLayouts: folders with links, with names of containerd's own, in several places, and none at all.
func TestLayouts(t *testing.T) {
	for name, prepare := range map[string]func(h *host){
		"none": func(h *host) { h.must(os.RemoveAll(filepath.Dir(h.certsd))) },
		"a linked file": func(h *host) {
			h.must(os.Rename(h.path("reg.example/hosts.toml"), h.path("real.toml")))
			h.must(os.Symlink("../real.toml", h.path("reg.example/hosts.toml")))
		},
		"a linked root": func(h *host) {
			h.must(os.Symlink(h.certsd, filepath.Join(h.dir, "link")))
			h.dirs = []string{filepath.Join(h.dir, "link")}
		},
		"a linked empty": func(h *host) {
			h.must(os.Mkdir(filepath.Join(h.dir, "e"), 0o755))
			h.must(os.Symlink("e", filepath.Join(h.dir, "link")))
			h.dirs = []string{filepath.Join(h.dir, "link", "certs.d")}
		},
		"underscores": func(h *host) { h.must(os.Rename(h.path("certs.example:5000"), h.path("certs.example_5000_"))) },
		"two places":  func(h *host) { h.dirs = []string{filepath.Join(h.dir, "first"), h.certsd} },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			prepare(h)
			before := h.snapshot()
			was := map[string][]string{}
			for _, r := range h.registries {
				for _, host := range h.asked(r.Name) { // what we write names real folders
					was[r.Name] = append(was[r.Name], strings.ReplaceAll(host, filepath.Join(h.dir, "link"), h.certsd))
				}
			}
			for range 2 {
				h.attach()
				for _, r := range h.registries {
					h.asks(r.Name, append([]string{mirror}, was[r.Name]...)...)
				}
				if problems, err := Check(h.options()); err != nil || len(problems) != 0 {
					t.Errorf("%q, %v", problems, err)
				}
			}
			h.detach()
			h.same(before)
		})
	}
}

// TestRefused: one file that cannot be changed does not keep the others from it, and stays as it is.
func TestRefused(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"no TOML":           {"[host", "it is no TOML"},
		"the mirror's name": {"[host.\"" + mirror + "\"]\n", "names https://127.0.0.1:5440 already"},
		"hosts in one line": {"host = { \"https://a.example\" = {} }\n", "rewrite it"},
		"dotted":            {"host.\"https://a.example\".capabilities = [\"pull\"]\n", "rewrite it"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.write("reg.example/hosts.toml", test.text, 0o644)
			_, err := Attach(h.options())
			if err == nil || !strings.Contains(err.Error(), "reg.example/hosts.toml: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if got := h.read("reg.example/hosts.toml"); got != test.text || exists(h.path("reg.example/hosts.toml"+aside)) {
				t.Errorf("%q", got)
			}
			h.asks("new.example", mirror, "https://proxy.corp.example", "registry")
		})
	}
	t.Run("later", func(t *testing.T) { // what was attached stays so
		h := newHost(t)
		h.attach()
		h.write("_default/hosts.toml", "ca = \"relative.pem\"\n[host]\n", 0o644)
		before := h.snapshot()
		if _, err := Attach(h.options()); err == nil || !strings.Contains(err.Error(), `names relative.pem by a relative path`) {
			t.Errorf("%v", err)
		}
		h.same(before)
	})
	t.Run("later, in the way of its folder", func(t *testing.T) {
		h := newHost(t)
		h.attach()
		h.write("certs.example_5000_", "", 0o644)
		before := h.snapshot()
		if _, err := Attach(h.options()); err == nil || !strings.Contains(err.Error(), "is no folder") {
			t.Errorf("%v", err)
		}
		h.same(before)
		if problems, err := Check(h.options()); err != nil || len(problems) != 1 || !strings.Contains(problems[0], "is no folder") {
			t.Errorf("%q, %v", problems, err)
		}
	})
	for name, change := range map[string]func(o *Options){
		"no folder":         func(o *Options) { o.Dirs = nil },
		"a relative one":    func(o *Options) { o.Dirs = []string{"certs.d"} },
		"http":              func(o *Options) { o.Mirror = "http://127.0.0.1:5440" },
		"a path":            func(o *Options) { o.Mirror += "/v2" },
		"no certificate":    func(o *Options) { o.CA = "" },
		"a hostile name":    func(o *Options) { o.Registries = []Registry{{Name: "../../etc"}} },
		"a default":         func(o *Options) { o.Registries = []Registry{{Name: "_default"}} },
		"a damaged journal": func(o *Options) { os.WriteFile(filepath.Join(o.State, Journal), []byte("{"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			o := h.options()
			change(&o)
			before := h.snapshot()
			if _, err := Attach(o); err == nil {
				t.Error("no error")
			}
			h.same(before)
		})
	}
}

// FuzzCompose: whatever the file, the mirror comes first and nothing else changes, and taking it out gives the same bytes.
func FuzzCompose(f *testing.F) {
	for _, text := range []string{theirs, corporate, "", "server = \"x\"", "a = \"\"\"\n[host.x]\n\"\"\"\n[host]\n[host.y]", "[[x]]\n[host.y]\r\n", "a = [\n['x'],\n]\n[ 'host' . y ]"} {
		f.Add([]byte(text))
	}
	o := Options{Mirror: mirror, CA: "/ca.pem"}
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.Contains(text, []byte("holdfast-agent")) {
			return
		}
		edited, err := o.compose(text, false)
		if err != nil {
			return
		}
		if _, order, err := parseHosts(edited); err != nil || order[0] != mirror {
			t.Fatalf("%q: %q, %v", edited, order, err)
		}
		rest, ours := strip(edited)
		if !ours || !bytes.Equal(rest, text) && !bytes.Equal(rest, append(bytes.Clone(text), '\n')) {
			t.Fatalf("%q came back as %q", text, rest)
		}
	})
}
