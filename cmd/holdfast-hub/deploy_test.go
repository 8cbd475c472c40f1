package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/reconciler/hub/install"
)

var (
	flagUsed = regexp.MustCompile(`(?m)(?:^\s*- |\s)--([a-z-]+)[= ]`)
	roleUsed = regexp.MustCompile(`(?m)^  kind: ClusterRole\n  name: (\S+)$`)
)

// TestDeploymentsUseFlagsThatAreThere reads the chart and the unit: a renamed flag must not wait for a cluster to be found out.
func TestDeploymentsUseFlagsThatAreThere(t *testing.T) {
	env := &cli.Env{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}, Getenv: func(string) string { return "" }}
	flags := newRunCommand(env).Flags()
	for _, file := range []string{"chart/templates/deployment.yaml", "systemd/holdfast-hub.service"} {
		text := deployed(t, file)
		used := flagUsed.FindAllStringSubmatch(text, -1)
		if len(used) < 3 {
			t.Fatalf("%s: found only %v", file, used)
		}
		for _, m := range used {
			if flags.Lookup(m[1]) == nil {
				t.Errorf("deploy/%s uses --%s, which `holdfast-hub run` does not have", file, m[1])
			}
		}
	}
}

// TestChartBindsInstalledRoles: the chart has no rules of its own, it binds those of `holdfast install`.
func TestChartBindsInstalledRoles(t *testing.T) {
	objects, err := install.Objects()
	if err != nil {
		t.Fatal(err)
	}
	installed := map[string]bool{}
	for _, obj := range objects {
		installed[obj.GetKind()+"/"+obj.GetName()] = true
	}
	bound := roleUsed.FindAllStringSubmatch(deployed(t, "chart/templates/rbac.yaml"), -1)
	if len(bound) != 2 {
		t.Fatalf("the chart binds %v", bound)
	}
	for _, m := range bound {
		if !installed["ClusterRole/"+m[1]] {
			t.Errorf("the chart binds ClusterRole %s, which `holdfast install` does not make", m[1])
		}
	}
}

func deployed(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "deploy", filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(raw)) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			text.WriteString(line)
		}
	}
	return text.String()
}
