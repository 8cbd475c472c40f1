package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// end shows the fleet once more.
func (d *demo) end(ctx context.Context) error {
	d.step("The fleet, from the cluster")
	if err := d.poolCounts(ctx); err != nil {
		return err
	}
	if err := d.showCluster(ctx); err != nil {
		return err
	}
	_, err := d.run(ctx, d.dir, "holdfast", "status")
	return err
}

// poolCounts waits until the NodePool counts the demo's nodes.
func (d *demo) poolCounts(ctx context.Context) error {
	return d.eventually(ctx, "NodePool "+pool+" counts two nodes that are ready and synced", func(ctx context.Context) error {
		out, err := d.quiet(ctx, d.dir, "kubectl", "get", "nodepool", pool, "-o", "jsonpath={.status.ready} {.status.synced}")
		if err == nil && out != "2 2" {
			err = fmt.Errorf("ready and synced are %q", out)
		}
		return err
	})
}

// lookAround prints how to go on when everything is left running.
func (d *demo) lookAround() error {
	line, err := d.lineAddress()
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, `
%[1]s in this terminal:

  export KUBECONFIG=%[2]s
  export GIT_CONFIG_GLOBAL=%[3]s GIT_SSL_CAINFO=%[4]s
  export PATH=%[5]s:$PATH
  kubectl get nodepools,edgenodes,nodes
  cd %[6]s      # edit pools/*, git commit -S -a, git push
  ls %[7]s           # what every program wrote

The store's server, behind its proxy:

  holdfast-agent status --state %[8]s
  holdfast-agent selftest --state %[8]s      # would it come back, right now?
  kubectl --kubeconfig %[9]s get pods -A --field-selector spec.nodeName=%[10]s      # through the proxy

Cut its line, and mend it:

  nft 'add table inet cut; add chain inet cut out { type filter hook output priority raw; }; add rule inet cut out ip daddr %[11]s drop; add rule inet cut out ip saddr %[11]s drop'
  nft delete table inet cut

Take it down with: go run ./test/lab/cmd/lab down %[12]s
`, d.paint("1", "It is left running. Look around"), d.lab.AdminKubeconfig(), filepath.Join(d.dir, "gitconfig"), d.ca(),
		strings.Join(strings.SplitN(os.Getenv("PATH"), string(os.PathListSeparator), 3)[:2], ":"), d.work(),
		filepath.Join(d.lab.Dir, "logs"), d.state(serverNode), d.kubeletConf(), serverNode, line, labName)
	return nil
}

// showLogs prints the end of each log of Holdfast's own programs and of kube-proxy, because they are gone with the lab.
func (d *demo) showLogs() {
	files, _ := filepath.Glob(filepath.Join(d.lab.Dir, "logs", "*.log"))
	for _, file := range files {
		name := filepath.Base(file)
		if !strings.HasPrefix(name, "agent-") && !strings.HasPrefix(name, "kube-proxy-") && name != "hub.log" && name != "git-server.log" {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		fmt.Fprintf(os.Stderr, "\n--- %s\n%s\n", name, strings.Join(lines[max(0, len(lines)-30):], "\n"))
	}
}
