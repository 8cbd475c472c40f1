// Package imports checks which package may import which. The seams of Holdfast are its packages: a rule of the design that
// nothing checks would be gone in a month.
package imports

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/holdfast-dev/holdfast"

// layers, from the top. A package imports only packages of layers below its own, and of its own entry. An entry ending in
// "/..." is a folder with all below it, except what another entry names more precisely. To add a package, add it here.
var layers = [][]string{
	{"cmd/holdfast", "cmd/holdfast-agent", "cmd/holdfast-hub"},
	{"cmd/internal/..."},
	{"edgeagent", "reconciler/hub/..."},
	// The agent's parts never import each other: proxy and mirror declare the few methods they need of a store.
	// What they share is in scope. Inside the proxy: the server, its parts, and pure code about the protocol at the bottom.
	{"edgeagent/store/...", "edgeagent/proxy", "edgeagent/mirror", "edgeagent/pool", "edgeagent/uplink", "edgeagent/kube"},
	{"edgeagent/proxy/offline", "edgeagent/proxy/selftest"},
	{"edgeagent/proxy/upstream", "edgeagent/proxy/identity", "edgeagent/proxy/rewrite", "edgeagent/proxy/outbox"},
	{"edgeagent/proxy/media"},
	{"edgeagent/proxy/request", "edgeagent/proxy/http2", "edgeagent/proxy/address", "edgeagent/proxy/kubelet"},
	{"edgeagent/proxy/selector"},
	{"edgeagent/proxy/wire"},
	{"edgeagent/scope"},
	{"edgeagent/mirror/registry", "edgeagent/mirror/containerd"},
	{"edgeagent/mirror/fetch"},
	{"edgeagent/mirror/upstream", "edgeagent/mirror/blob"},
	{"edgeagent/mirror/oci"},
	{"edgeagent/pool/lease", "edgeagent/pool/discovery"},
	{"edgeagent/pool/identity"},
	{"edgeagent/durable", "edgeagent/seal"},
	// The path from a poll to a plan, which node and hub share.
	{"reconciler/revision"},
	// Domains never import each other; they meet in plan and condition.
	{"reconciler/source/...", "reconciler/fleet", "reconciler/nodepool", "reconciler/tunnel", "reconciler/device", "reconciler/release"},
	{"reconciler", "policy/...", "schemas"},
	{"reconciler/plan/...", "reconciler/condition", "reconciler/sandbox", "reconciler/hub/api/...", "examples"},
}

// owners names the packages that alone may import a library. A library is a module or folder with all below it.
var owners = []struct {
	library string
	by      []string
}{
	{"go.etcd.io/bbolt", []string{"edgeagent/store/..."}},
	{"golang.zx2c4.com/wireguard", []string{"reconciler/tunnel"}},
	{"github.com/vishvananda/netlink", []string{"reconciler/tunnel"}},
	{"cuelang.org/go", []string{"reconciler/fleet", "policy/...", "schemas"}},
	{"github.com/go-git/go-git/v5/plumbing/transport", []string{"reconciler/source/..."}},
	{"github.com/go-git/go-git/v5/plumbing/protocol", []string{"reconciler/source/..."}},
	{"github.com/sigstore", []string{"policy/..."}},
	{"github.com/hiddeco/sshsig", []string{"policy/..."}},
	{"github.com/ProtonMail/go-crypto", []string{"policy/..."}},
	{"sigs.k8s.io/controller-runtime", []string{"reconciler/hub/...", "cmd/holdfast-hub"}},
}

// goPackage is what `go list -json` says of a package.
type goPackage struct {
	ImportPath string
	Imports    []string
}

func TestImportDirection(t *testing.T) {
	for _, p := range list(t, "./...") {
		name, _ := local(p.ImportPath)
		if isTest(name) {
			continue
		}
		if _, err := layerOf(name); err != nil {
			t.Error(err)
			continue
		}
		for _, imported := range p.Imports {
			if err := checkImport(name, imported); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestRules checks the checker: each of these breaks, or keeps, a rule of the design.
func TestRules(t *testing.T) {
	for _, test := range []struct {
		name, imported string
		fine           bool
	}{
		{"cmd/holdfast", "edgeagent", true},
		{"cmd/holdfast", "cmd/internal/cli", true},
		{"cmd/holdfast", "cmd/holdfast-hub", false},
		{"edgeagent", "edgeagent/store", true},
		{"edgeagent", "reconciler/nodepool", true},
		{"edgeagent", "reconciler/hub", false},
		{"edgeagent", "reconciler/hub/api/v1alpha1", true},
		{"edgeagent/proxy", "edgeagent/store", false},
		{"edgeagent/store", "edgeagent", false},
		{"reconciler/hub", "edgeagent", false},
		{"reconciler/hub", "reconciler/hub/rollup", true},
		{"reconciler/hub", "reconciler/revision", true},
		{"reconciler/nodepool", "reconciler/source", false},
		{"reconciler/nodepool", "reconciler/plan", true},
		{"reconciler/plan", "reconciler", false},
		{"reconciler/plan", "reconciler/condition", false},
		{"reconciler", "reconciler/nodepool", false},
		{"reconciler/source", "policy/verify", true},
		{"policy/verify", "policy/trust", true},
		{"policy/verify", "reconciler/source", false},
		{"edgeagent", "test/lab", false},
		{"edgeagent", "policy/verify/verifytest", false},
	} {
		if err := checkImport(test.name, module+"/"+test.imported); (err == nil) != test.fine {
			t.Errorf("%s → %s: got %v, want fine=%v", test.name, test.imported, err, test.fine)
		}
	}
	for _, test := range []struct {
		name, library string
		fine          bool
	}{
		{"edgeagent/store", "go.etcd.io/bbolt", true},
		{"edgeagent", "go.etcd.io/bbolt", false},
		{"policy/guardrails", "cuelang.org/go/cue", true},
		{"reconciler/plan", "cuelang.org/go/cue", false},
		{"cmd/holdfast", "sigs.k8s.io/controller-runtime/pkg/client", false},
		{"reconciler/hub/rollup", "sigs.k8s.io/controller-runtime/pkg/client", true},
		{"cmd/holdfast", "github.com/spf13/cobra", true},
	} {
		if err := checkImport(test.name, test.library); (err == nil) != test.fine {
			t.Errorf("%s → %s: got %v, want fine=%v", test.name, test.library, err, test.fine)
		}
	}
	if _, err := layerOf("reconciler/util"); err == nil {
		t.Error("a package that no layer names was let through")
	}
}

// TestAgentIsLean checks what the node's program links: its memory is the promise of 12 MB anonymous.
func TestAgentIsLean(t *testing.T) {
	for _, p := range list(t, "-deps", "./cmd/holdfast-agent") {
		for _, heavy := range []string{"sigs.k8s.io/controller-runtime", "github.com/spf13/viper", module + "/test"} {
			if within(p.ImportPath, heavy) {
				t.Errorf("cmd/holdfast-agent links %s; `go list -deps` with -json shows through which package", p.ImportPath)
			}
		}
	}
}

// checkImport says whether a package of ours may import a package.
func checkImport(name, imported string) error {
	for _, owner := range owners {
		if within(imported, owner.library) && !slices.ContainsFunc(owner.by, func(entry string) bool { return matches(entry, name) }) {
			return fmt.Errorf("%s imports %s: only %s may", name, imported, strings.Join(owner.by, ", "))
		}
	}
	other, ours := local(imported)
	if !ours {
		return nil
	}
	if isTest(other) {
		return fmt.Errorf("%s imports %s: only tests may", name, other)
	}
	from, err := layerOf(name)
	if err != nil {
		return err
	}
	to, err := layerOf(other)
	if err != nil {
		return err
	}
	if from.entry == to.entry || from.depth < to.depth {
		return nil
	}
	if from.depth == to.depth {
		return fmt.Errorf("%s imports %s: they are side by side and never import each other", name, other)
	}
	return fmt.Errorf("%s imports %s: the direction is cmd → edgeagent, reconciler/hub → reconciler/* → reconciler → plan, condition", name, other)
}

// place is where a package stands: the entry that names it, and its layer's depth from the top.
type place struct {
	entry string
	depth int
}

// layerOf finds the most precise entry for a package.
func layerOf(name string) (place, error) {
	best := place{depth: -1}
	for depth, layer := range layers {
		for _, entry := range layer {
			if matches(entry, name) && len(entry) > len(best.entry) {
				best = place{entry, depth}
			}
		}
	}
	if best.depth < 0 {
		return best, fmt.Errorf("%s is in no layer: add it to the table in test/imports", name)
	}
	return best, nil
}

// matches tells whether an entry names a package.
func matches(entry, name string) bool {
	if folder, all := strings.CutSuffix(entry, "/..."); all {
		return within(name, folder)
	}
	return entry == name
}

// within tells whether a path is a folder or below it.
func within(name, folder string) bool {
	return name == folder || strings.HasPrefix(name, folder+"/")
}

// local cuts the module off an import path and tells whether the package is ours.
func local(name string) (string, bool) {
	return strings.CutPrefix(name, module+"/")
}

// isTest tells whether a package is there for tests: all of test/, and helpers such as verify/verifytest.
func isTest(name string) bool {
	return within(name, "test") || path.Base(name) == path.Base(path.Dir(name))+"test"
}

// list asks the go command about packages of this module.
func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Imports"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var packages []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
