// Package fleetrepo gives tests a fleet repo with real CUE and real signatures behind a real Git server.
package fleetrepo

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/fleet/fleettest"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

// Fleet is a fleet repo that is served. Its Repo makes commits.
type Fleet struct {
	*verifytest.Repo
	Git *gitserver.Server
	// URL is the repository's, CA a file with the certificate to trust; "" for plain http.
	URL, CA string
}

// Pool is one pool of a fleet.
type Pool struct {
	Name string
	// Nodes are the pool's nodes with their labels.
	Nodes map[string]map[string]string
	// MovedTo names the new pools of nodes that left.
	MovedTo map[string]string
	// More is CUE to add.
	More string
}

// File gives the pool as a file of the fleet repo.
func (p Pool) File() verifytest.Files {
	var b strings.Builder
	fmt.Fprintf(&b, "package fleet\n\npool: {\n\tname: %q\n\ttype: \"Edge\"\n\tlabels: \"topology.kubernetes.io/region\": \"eu\"\n", p.Name)
	for _, node := range slices.Sorted(maps.Keys(p.Nodes)) {
		fmt.Fprintf(&b, "\tnodes: %q: {\n\t\tarch: \"amd64\"\n", node)
		for _, k := range slices.Sorted(maps.Keys(p.Nodes[node])) {
			fmt.Fprintf(&b, "\t\tlabels: %q: %q\n", k, p.Nodes[node][k])
		}
		b.WriteString("\t}\n")
	}
	for _, node := range slices.Sorted(maps.Keys(p.MovedTo)) {
		fmt.Fprintf(&b, "\tmovedTo: %q: %q\n", node, p.MovedTo[node])
	}
	fmt.Fprintf(&b, "}\n%s\n", p.More)
	return verifytest.Files{"pools/" + p.Name + "/pool.cue": b.String()}
}

// One gives a pool of one node with one label.
func One(pool, node, key, value string) Pool {
	return Pool{Name: pool, Nodes: map[string]map[string]string{node: {key: value}}}
}

// Start makes a fleet with these pools in its first commit, which is the anchor, and serves it until the test ends. Equal fleets
// have equal commit ids.
func Start(tb testing.TB, cfg gitserver.Config, pools ...Pool) *Fleet {
	tb.Helper()
	return StartPolicy(tb, verifytest.DefaultPolicy(), cfg, pools...)
}

// StartPolicy is Start with a policy of the test's own, by which carol may change the pools.
func StartPolicy(tb testing.TB, policy trust.Policy, cfg gitserver.Config, pools ...Pool) *Fleet {
	tb.Helper()
	files := verifytest.Files{}
	for _, f := range fleettest.Root() {
		files[f.Path] = string(f.Data)
	}
	for _, p := range pools {
		maps.Copy(files, p.File())
	}
	cfg.Root = tb.TempDir()
	f := &Fleet{Repo: verifytest.New(tb, verifytest.At(filepath.Join(cfg.Root, "fleet.git")), verifytest.WithPolicy(policy), verifytest.WithFiles(files), verifytest.Seeded())}
	var err error
	if f.Git, err = gitserver.Start(cfg); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := f.Git.Close(); err != nil {
			tb.Error(err)
		}
	})
	f.URL = f.Git.URL + "/fleet.git"
	if f.Git.CA != "" {
		f.CA = filepath.Join(tb.TempDir(), "ca.crt")
		if err := os.WriteFile(f.CA, []byte(f.Git.CA), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return f
}

// Set pushes a pool, signed by a principal who may, and gives the revision.
func (f *Fleet) Set(p Pool) string { return f.Push("carol", p.File()) }
