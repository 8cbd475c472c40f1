//go:build bench

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-dev/holdfast/edgeagent"
	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/fleet/fleettest"
	"github.com/holdfast-dev/holdfast/reconciler/hub/install"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
	"github.com/holdfast-dev/holdfast/test/gitserver"
	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

func TestMain(m *testing.M) {
	sandbox.Main(revision.Children())
	os.Exit(m.Run())
}

// perPool is how many nodes each pool of the benchmarks has.
const perPool = 20

// site is what agents need around them: a signed fleet repo on a Git server, and an API server that keeps an audit log.
type site struct {
	lab   *lab.Lab
	git   *gitserver.Server
	repo  *verifytest.Repo
	ca    string
	audit string
	files verifytest.Files
	// auditRead is how much of the audit log was read, auditLines the requests in it.
	auditRead  int64
	auditLines int
}

// newSite builds a site for a fleet of that many nodes, which poll at that interval.
func newSite(b *testing.B, nodes int, poll time.Duration) *site {
	b.Helper()
	s := &site{files: verifytest.Files{}, ca: filepath.Join(b.TempDir(), "git-ca.crt"), audit: filepath.Join(b.TempDir(), "audit.log")}
	files := fleettest.Edit(fleettest.Files(nodes, perPool), "fleet.cue", `"1m"`, fmt.Sprintf("\"%ds\"", int(poll.Seconds())))
	for _, f := range files {
		s.files[f.Path] = string(f.Data)
	}
	s.repo = verifytest.New(b, verifytest.WithFiles(s.files), verifytest.StartingAt(time.Now().Add(-time.Hour)))
	var err error
	if s.git, err = gitserver.Start(gitserver.Config{Root: filepath.Dir(s.repo.Dir)}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { check(b, s.git.Close()) })
	check(b, os.WriteFile(s.ca, []byte(s.git.CA), 0o600))
	policy := filepath.Join(b.TempDir(), "audit.yaml")
	check(b, os.WriteFile(policy, []byte(auditPolicy), 0o600))
	s.lab = labtest.Start(b, lab.Options{APIServerFlags: []string{"--audit-policy-file=" + policy, "--audit-log-path=" + s.audit}})
	s.install(b)
	return s
}

// auditPolicy records the requests of nodes, a line for each.
const auditPolicy = `{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"], "rules": [
	{"level": "Metadata", "userGroups": ["system:nodes"], "omitStages": ["RequestReceived", "ResponseStarted"]}, {"level": "None"}]}`

func (s *site) install(b *testing.B) {
	cfg, err := clientcmd.BuildConfigFromFlags("", s.lab.AdminKubeconfig())
	check(b, err)
	client, err := dynamic.NewForConfig(cfg)
	check(b, err)
	objects, err := install.Objects()
	check(b, err)
	check(b, install.Apply(b.Context(), client, objects, func(install.Step) {}))
}

// nodeName is the i-th node of the fleet that fleettest makes.
func nodeName(i int) string {
	pool := fleettest.PoolName(i / perPool)
	if i%perPool == 0 {
		return pool + "-server"
	}
	return fmt.Sprintf("%s-till-%d", pool, i%perPool)
}

// enroll registers the i-th node in the cluster, as kubelet and hub do, and enrols its agent. It gives the state folder.
func (s *site) enroll(ctx context.Context, i int, state string) error {
	type object = map[string]any
	name := nodeName(i)
	node, err := s.lab.AddNode(ctx, lab.NodeOptions{Name: name})
	if err != nil {
		return err
	}
	edgeNode := object{"apiVersion": "fleet.holdfast.dev/v1alpha1", "kind": "EdgeNode", "metadata": object{"name": name},
		"spec": object{"fleet": verifytest.Fleet, "pool": fleettest.PoolName(i / perPool)}}
	if err := s.lab.Request(ctx, http.MethodPost, "/apis/fleet.holdfast.dev/v1alpha1/edgenodes", edgeNode, nil); err != nil {
		return err
	}
	_, err = edgeagent.Enroll(ctx, edgeagent.EnrollOptions{
		State: state, Node: name, Pool: fleettest.PoolName(i / perPool), URL: s.git.URL + "/fleet.git", Branch: verifytest.Branch,
		Anchor: s.repo.Anchor(), CA: s.ca, Kubeconfig: node.Kubeconfig, Version: "bench",
	})
	return err
}

// relabel pushes a signed commit that gives every node another label, and returns its id.
func (s *site) relabel(value string) string {
	const old = `"kelp.example/brand": "kelp"`
	changed := strings.Replace(s.files["fleet.cue"], old, fmt.Sprintf(`"kelp.example/brand": %q`, value), 1)
	return s.repo.Push("alice", verifytest.Files{"fleet.cue": changed})
}

// label reads the label that relabel changes.
func (s *site) label(ctx context.Context, node string) (string, error) {
	var n struct {
		Metadata struct{ Labels map[string]string }
	}
	err := s.lab.Request(ctx, http.MethodGet, "/api/v1/nodes/"+node, nil, &n)
	return n.Metadata.Labels["kelp.example/brand"], err
}

// apiRequests counts the requests of nodes so far. It reads on where it ended: the log of hundreds of agents is long.
func (s *site) apiRequests(b *testing.B) int {
	b.Helper()
	f, err := os.Open(s.audit)
	check(b, err)
	defer f.Close()
	_, err = f.Seek(s.auditRead, io.SeekStart)
	check(b, err)
	added, err := io.ReadAll(f)
	check(b, err)
	lines := added[:bytes.LastIndexByte(added, '\n')+1] // the rest is still being written
	s.auditRead += int64(len(lines))
	s.auditLines += bytes.Count(lines, []byte{'\n'})
	return s.auditLines
}

// until waits for a condition.
func until(b *testing.B, limit time.Duration, what string, f func() error) {
	b.Helper()
	check(b, poll(b.Context(), limit, what, f))
}

// poll tries f until it succeeds, with a deadline.
func poll(ctx context.Context, limit time.Duration, what string, f func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %s: %w", what, limit, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), err)
		case <-time.After(pollEvery):
		}
	}
}

// pollEvery is seldom enough not to take the processor from what is measured.
const pollEvery = 50 * time.Millisecond

// memoryKB reads a figure such as "RssAnon" from /proc/PID/status.
func memoryKB(b *testing.B, pid int, name string) float64 {
	b.Helper()
	value := firstField(fmt.Sprintf("/proc/%d/status", pid), name)
	kb, err := strconv.ParseFloat(strings.TrimSuffix(value, " kB"), 64)
	check(b, err)
	return kb
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
