package main

import (
	"bytes"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
)

// runHoldfast runs one command line in this process.
func runHoldfast(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	env := &cli.Env{Out: &o, Err: &e, Getenv: func(string) string { return "" }}
	code = cli.Run(t.Context(), env, newRootCommand, args)
	return code, o.String(), e.String()
}

func TestInstallDryRunTouchesNoCluster(t *testing.T) {
	t.Setenv("KUBECONFIG", "/nowhere")
	code, out, errs := runHoldfast(t, "install", "--dry-run")
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	for _, want := range []string{"name: edgenodes.fleet.holdfast.dev", "name: holdfast-node-marks", "kind: ClusterRoleBinding"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in what it prints", want)
		}
	}
}

func TestNoCluster(t *testing.T) {
	dead := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(dead, []byte(`{apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: x}}], clusters: [{name: x, cluster: {server: "https://127.0.0.1:1"}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	for _, c := range []struct{ args, want string }{
		{"status --kubeconfig " + dead, "connection refused"},
		{"status -w --kubeconfig " + dead, "connection refused"},
		{"install --kubeconfig " + dead, "connection refused"},
		{"status --kubeconfig /nowhere", "no cluster: "},
		{"install --kubeconfig /nowhere", "no cluster: "},
		{"status --context absent --kubeconfig " + dead, `context "absent" does not exist`},
	} {
		code, _, errs := runHoldfast(t, strings.Fields(c.args)...)
		if code != cli.ExitUnreachable || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit code %d, %q; want 3 and %q", c.args, code, errs, c.want)
		}
	}
	if code, _, errs := runHoldfast(t, "status", "-o", "xml"); code != cli.ExitUsage || !strings.Contains(errs, `-o "xml" is none of`) {
		t.Errorf("exit code %d, %q", code, errs)
	}
}

func TestReached(t *testing.T) {
	nodes := schema.GroupResource{Resource: "nodes"}
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, cli.ExitOK},
		{&url.Error{Op: "Get", Err: errors.New("connection refused")}, cli.ExitUnreachable},
		{apierrors.NewUnauthorized("no"), cli.ExitUnreachable},
		{apierrors.NewServiceUnavailable("draining"), cli.ExitUnreachable},
		{apierrors.NewForbidden(nodes, "x", errors.New("no")), cli.ExitWrong},
		{apierrors.NewNotFound(nodes, "x"), cli.ExitWrong},
	} {
		if got := cli.ExitCode(reached(c.err)); got != c.code {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.code)
		}
	}
}
