package containerd

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const mirror = "https://127.0.0.1:5440"

// host is a host with containerd's folder of hosts, and an agent's state folder.
type host struct {
	t             *testing.T
	dir           string
	state, certsd string
	registries    []Registry
	dirs          []string
}

const (
	corporate = "# the proxy of the company\n[host.\"https://proxy.corp.example\"]\n  capabilities = [\"pull\"]\n  ca = \"/etc/corp.pem\"\n"
	theirs    = "server = \"https://reg.example\" # \"[host.x]\"\n\n  [ host . \"https://cache.lan\" ]\n  capabilities = ['pull']\n  client = [\n  [\"/a.cert\", \"/a.key\"],\n  ]\n\n[host.\"https://cache.lan\".header]\n  x = \"y\""
)

// newHost is a host with a file for reg.example, certificates for certs.example:5000, a default, and nothing for new.example.
func newHost(t *testing.T) *host {
	h := &host{t: t, dir: t.TempDir()}
	h.state, h.certsd = filepath.Join(h.dir, "state"), filepath.Join(h.dir, "etc", "certs.d")
	h.dirs = []string{h.certsd}
	h.must(os.Mkdir(h.state, 0o700))
	h.write("reg.example/hosts.toml", theirs, 0o640)
	h.write("certs.example:5000/a.crt", "CA", 0o644)
	h.write("certs.example:5000/b.cert", "CERT", 0o644)
	h.write("_default/hosts.toml", corporate, 0o644)
	h.registries = []Registry{{Name: "reg.example"}, {Name: "certs.example:5000"}, {Name: "new.example"}}
	return h
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) path(name string) string { return filepath.Join(h.certsd, name) }

func (h *host) write(name, text string, mode fs.FileMode) {
	h.t.Helper()
	h.must(os.MkdirAll(filepath.Dir(h.path(name)), 0o755))
	h.must(os.WriteFile(h.path(name), []byte(text), mode))
}

func (h *host) read(name string) string {
	h.t.Helper()
	raw, err := os.ReadFile(h.path(name))
	h.must(err)
	return string(raw)
}

func (h *host) options() Options {
	return Options{State: h.state, Dirs: h.dirs, Mirror: mirror, CA: "/var/lib/holdfast/tls/ca.pem", Registries: h.registries}
}

func (h *host) attach() []string {
	h.t.Helper()
	notes, err := Attach(h.options())
	h.must(err)
	return notes
}

func (h *host) detach() []string {
	h.t.Helper()
	notes, err := Detach(h.state, nil)
	h.must(err)
	return notes
}

// snapshot gives everything that is there, with modes, times of change and contents.
func (h *host) snapshot() map[string]string {
	h.t.Helper()
	out := map[string]string{}
	h.must(filepath.WalkDir(h.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		out[path] = info.Mode().String()
		if d.Type().IsRegular() {
			raw, err := os.ReadFile(path)
			out[path] += fmt.Sprintf(" %s %s", info.ModTime(), raw)
			return err
		}
		return nil
	}))
	return out
}

func (h *host) same(before map[string]string) {
	h.t.Helper()
	after := h.snapshot()
	if maps.Equal(after, before) {
		return
	}
	for path, want := range before {
		if after[path] != want {
			h.t.Errorf("%s:\n%s\nwant\n%s", path, after[path], want)
		}
	}
	for path := range after {
		if _, ok := before[path]; !ok {
			h.t.Errorf("left behind: %s", path)
		}
	}
}

// asked does what containerd does at a pull: which hosts it asks, in order. "registry" is the registry itself.
func (h *host) asked(registry string) []string {
	h.t.Helper()
	for _, root := range h.dirs {
		for _, name := range append(names(registry), "_default") {
			dir := filepath.Join(root, name)
			if _, err := os.Stat(dir); err != nil {
				continue
			}
			raw, err := os.ReadFile(filepath.Join(dir, hostsFile))
			if os.IsNotExist(err) {
				if crt, _ := filepath.Glob(filepath.Join(dir, "*.crt")); len(crt) > 0 {
					return []string{"registry with " + strings.Join(crt, ",")}
				}
				return []string{"registry"}
			}
			h.must(err)
			document, order, err := parseHosts(raw)
			h.must(err)
			if _, ok := document["host"]; !ok {
				h.t.Errorf("containerd 1.6 does not read %s", raw)
			}
			last := "registry"
			if server, ok := document["server"].(string); ok {
				last = server
			}
			if ca := paths(document["ca"]); len(ca) > 0 {
				last += " with " + strings.Join(ca, ",")
			}
			return append(order, last)
		}
	}
	return []string{"registry"}
}

func (h *host) asks(registry string, want ...string) {
	h.t.Helper()
	if got := h.asked(registry); !slices.Equal(got, want) {
		h.t.Errorf("pulls from %s ask %q, want %q", registry, got, want)
	}
}

func TestInAndOut(t *testing.T) {
	h := newHost(t)
	before := h.snapshot()
	crt := h.path("certs.example:5000/a.crt")
	for range 2 {
		if notes := h.attach(); len(notes) != 0 {
			t.Errorf("%q", notes)
		}
		h.asks("reg.example", mirror, "https://cache.lan", "https://reg.example")
		h.asks("certs.example:5000", mirror, "registry with "+crt)
		h.asks("new.example", mirror, "https://proxy.corp.example", "registry")
		h.asks("other.example", "https://proxy.corp.example", "registry")
		if problems, err := Check(h.options()); err != nil || len(problems) != 0 {
			t.Errorf("%q, %v", problems, err)
		}
	}
	block := "# BEGIN holdfast-agent: pulls go to this node's mirror. The agent takes these lines out again by itself.\n" +
		"[host.\"https://127.0.0.1:5440\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = '/var/lib/holdfast/tls/ca.pem'\n# END holdfast-agent\n"
	if got, want := h.read("reg.example/hosts.toml"), strings.Replace(theirs, "\n  [ host", "\n"+block+"  [ host", 1); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if info, err := os.Stat(h.path("reg.example/hosts.toml")); err != nil || info.Mode() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if got := h.read("certs.example:5000/hosts.toml"); !strings.Contains(got, "b.cert', '") || !strings.Contains(got, "b.key'") {
		t.Error(got)
	}
	// Nothing is written when nothing changes.
	attached := h.snapshot()
	h.attach()
	h.same(attached)

	if notes := h.detach(); len(notes) != 0 {
		t.Errorf("%q", notes)
	}
	h.same(before)
	h.detach()
	h.same(before)
}

// TestOnly: where something must be signed nothing else is asked, in and out, and back.
func TestOnly(t *testing.T) {
	h := newHost(t)
	before := h.snapshot()
	all := func(only bool) {
		t.Helper()
		for i := range h.registries {
			h.registries[i].Only = only
		}
		if problems, err := Check(h.options()); err != nil || len(problems) != len(h.registries) {
			t.Errorf("not done yet: %q, %v", problems, err)
		}
		h.attach()
		if problems, err := Check(h.options()); err != nil || len(problems) != 0 {
			t.Errorf("%q, %v", problems, err)
		}
	}
	for range 2 {
		all(true)
		for _, r := range h.registries {
			h.asks(r.Name, mirror+" with /var/lib/holdfast/tls/ca.pem")
		}
		all(false)
		h.asks("reg.example", mirror, "https://cache.lan", "https://reg.example")
		h.asks("new.example", mirror, "https://proxy.corp.example", "registry")
	}
	all(true)
	h.detach()
	h.same(before)
}

// TestFewerRegistries: what is no longer declared is what it was.
func TestFewerRegistries(t *testing.T) {
	h := newHost(t)
	before := h.snapshot()
	h.attach()
	all := h.registries
	h.registries = all[:1]
	if notes := h.attach(); len(notes) != 0 {
		t.Errorf("%q", notes)
	}
	h.asks("reg.example", mirror, "https://cache.lan", "https://reg.example")
	h.asks("new.example", "https://proxy.corp.example", "registry")
	h.registries = all[1:]
	h.attach()
	h.asks("reg.example", "https://cache.lan", "https://reg.example")
	h.registries = nil
	h.attach()
	h.same(before)
}

// killedAt runs f and ends it at the nth step, as a crash would.
func killedAt(n int, f func(step func(string)) error) (killed bool, err error) {
	defer func() {
		if recover() == "killed" {
			killed = true
		}
	}()
	return false, f(func(string) {
		if n--; n == 0 {
			panic("killed")
		}
	})
}

// TestKilledAtEachStep: whenever attaching, changing or detaching is interrupted, containerd can pull, going on arrives, and detaching puts
// every byte back.
func TestKilledAtEachStep(t *testing.T) {
	works := func(h *host) {
		h.t.Helper()
		for _, r := range h.registries {
			if asked := h.asked(r.Name); len(asked) == 0 {
				h.t.Errorf("%s: nobody is asked", r.Name)
			}
		}
	}
	steps := func(prepare func(h *host), run func(h *host, step func(string)) error, after func(h *host)) {
		t.Helper()
		for n := 1; ; n++ {
			h := newHost(t)
			h.must(os.RemoveAll(h.path("_default")))
			before := h.snapshot()
			prepare(h)
			killed, err := killedAt(n, func(step func(string)) error { return run(h, step) })
			h.must(err)
			works(h)
			after(h)
			works(h)
			if notes := h.detach(); len(notes) != 0 {
				t.Errorf("%q", notes)
			}
			h.same(before)
			if t.Failed() {
				t.Fatalf("killed at step %d", n)
			}
			if !killed {
				if n < 6 {
					t.Fatalf("only %d steps", n-1)
				}
				return
			}
		}
	}
	attach := func(h *host, step func(string)) error {
		o := h.options()
		o.Step = step
		_, err := Attach(o)
		return err
	}
	nothing := func(*host) {}
	again := func(h *host) {
		h.attach()
		for _, r := range h.registries {
			if asked := h.asked(r.Name); !strings.HasPrefix(asked[0], mirror) {
				t.Errorf("%s: %q is asked first", r.Name, asked[0])
			}
		}
	}
	only := func(h *host) {
		h.attach()
		for i := range h.registries {
			h.registries[i].Only = true
		}
	}
	steps(nothing, attach, nothing)
	steps(nothing, attach, again)
	steps(only, attach, nothing)
	steps(only, attach, again)
	steps(func(h *host) { h.attach(); h.registries = h.registries[:1] }, attach, again)
	steps(func(h *host) { h.attach() }, func(h *host, step func(string)) error { _, err := Detach(h.state, step); return err }, nothing)
	steps(func(h *host) { only(h); h.attach() }, func(h *host, step func(string)) error { _, err := Detach(h.state, step); return err }, again)
}

func TestFilesThatSomebodyElseChanged(t *testing.T) {
	added := "\n[host.\"https://late.example\"]\n"
	t.Run("edited", func(t *testing.T) {
		h := newHost(t)
		h.attach()
		for _, name := range []string{"reg.example", "certs.example:5000"} {
			h.write(name+"/hosts.toml", h.read(name+"/hosts.toml")+added, 0o644)
		}
		if problems, err := Check(h.options()); err != nil || len(problems) != 0 {
			t.Errorf("the mirror is still first: %q, %v", problems, err)
		}
		for range 2 {
			h.attach()
			h.asks("reg.example", mirror, "https://cache.lan", "https://late.example", "https://reg.example")
		}
		h.detach()
		if got := h.read("reg.example/hosts.toml"); got != theirs+added {
			t.Errorf("%s", got)
		}
		h.asks("certs.example:5000", "https://late.example", "registry with "+h.path("certs.example:5000/a.crt"))
	})
	t.Run("edited, not attached again", func(t *testing.T) {
		h := newHost(t)
		h.attach()
		h.write("reg.example/hosts.toml", h.read("reg.example/hosts.toml")+added, 0o644)
		if notes := h.detach(); len(notes) != 1 || !strings.Contains(notes[0], "only the mirror's lines were taken out") {
			t.Errorf("%q", notes)
		}
		if got := h.read("reg.example/hosts.toml"); got != theirs+added || exists(h.path("reg.example/hosts.toml"+aside)) {
			t.Errorf("%s", got)
		}
	})
	t.Run("edited where only the mirror is asked", func(t *testing.T) {
		h := newHost(t)
		h.registries[0].Only = true
		h.attach()
		h.write("reg.example/hosts.toml", h.read("reg.example/hosts.toml")+added, 0o644)
		if problems, err := Check(h.options()); err != nil || len(problems) != 1 || !strings.Contains(problems[0], "must be signed") {
			t.Errorf("%q, %v", problems, err)
		}
		if notes := h.detach(); len(notes) != 1 || !strings.Contains(notes[0], ".changed") {
			t.Errorf("%q", notes)
		}
		if h.read("reg.example/hosts.toml") != theirs || h.read("reg.example/hosts.toml.changed") != added {
			t.Error("something was lost")
		}
	})
	t.Run("replaced", func(t *testing.T) {
		h := newHost(t)
		h.attach()
		newer := "[host.\"https://newer.example\"]\n"
		for _, name := range []string{"reg.example", "new.example"} {
			h.write(name+"/hosts.toml", newer, 0o644)
		}
		if problems, err := Check(h.options()); err != nil || len(problems) != 2 || !strings.Contains(problems[0], "does not ask the mirror first") {
			t.Errorf("%q, %v", problems, err)
		}
		if notes := h.detach(); len(notes) != 3 || !strings.Contains(strings.Join(notes, "\n"), "was replaced meanwhile and stays") {
			t.Errorf("%q", notes)
		}
		if h.read("reg.example/hosts.toml") != newer || h.read("new.example/hosts.toml") != newer || exists(h.path("reg.example/hosts.toml"+aside)) {
			t.Error("what is newer was lost")
		}
	})
	t.Run("replaced, attached again", func(t *testing.T) {
		h := newHost(t)
		h.attach()
		newer := "[host.\"https://newer.example\"]\n"
		h.write("reg.example/hosts.toml", newer, 0o644)
		h.attach()
		h.asks("reg.example", mirror, "https://newer.example", "registry")
		h.detach()
		if h.read("reg.example/hosts.toml") != newer {
			t.Error("what is newer was lost")
		}
	})
	t.Run("removed", func(t *testing.T) {
		h := newHost(t)
		h.attach()
		h.must(os.Remove(h.path("reg.example/hosts.toml")))
		h.must(os.RemoveAll(h.path("new.example")))
		if notes := h.detach(); len(notes) != 1 || !strings.Contains(notes[0], "removed meanwhile") {
			t.Errorf("%q", notes)
		}
		if exists(h.path("reg.example/hosts.toml")) || exists(h.path("new.example")) {
			t.Error("what was removed is back")
		}
	})
	t.Run("a folder that was made is used", func(t *testing.T) {
		h := newHost(t)
		h.attach()
		h.write("new.example/their.crt", "CA", 0o644)
		h.attach()
		h.asks("new.example", mirror, "registry with "+h.path("new.example/their.crt"))
		if notes := h.detach(); len(notes) != 1 || !strings.Contains(notes[0], "their.crt") {
			t.Errorf("%q", notes)
		}
		h.asks("new.example", "registry with "+h.path("new.example/their.crt"))
	})
	t.Run("what is for all changes", func(t *testing.T) {
		h := newHost(t)
		before := h.snapshot()
		h.attach()
		h.write("_default/hosts.toml", "[host.\"https://other.corp.example\"]\n", 0o644)
		h.attach()
		h.asks("new.example", mirror, "https://other.corp.example", "registry")
		h.must(os.RemoveAll(h.path("_default")))
		h.attach()
		h.asks("new.example", mirror, "registry")
		h.detach()
		for path := range before {
			if strings.Contains(path, "_default") {
				delete(before, path)
			}
		}
		h.same(before)
	})
	t.Run("the state is lost", func(t *testing.T) {
		for _, only := range []bool{false, true} {
			h := newHost(t)
			h.must(os.RemoveAll(h.path("_default")))
			before := h.snapshot()
			h.registries[0].Only = only
			h.attach()
			h.must(os.Remove(filepath.Join(h.state, Journal)))
			h.attach()
			h.detach()
			for _, name := range []string{"reg.example/hosts.toml", "certs.example:5000/a.crt"} {
				if h.snapshot()[h.path(name)] != before[h.path(name)] {
					t.Errorf("%s: %s", name, h.read(name))
				}
			}
			if exists(h.path("reg.example/hosts.toml" + aside)) {
				t.Error("what was set aside is left behind")
			}
		}
	})
}
