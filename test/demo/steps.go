package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// poolFile is the file of the demo's pool.
const poolFile = "pools/" + pool + "/pool.cue"

// signedPush changes labels of nodes and a NodePool by a signed push.
func (d *demo) signedPush(ctx context.Context) error {
	d.step("A signed push changes the nodes' labels and the NodePool")
	d.say("Berlin got fibre. Alice, an operator, edits the pool, looks at what it comes to, signs and pushes:")
	if err := d.change(ctx, poolFile, `"kelp.example/uplink":           "nat"`, `"kelp.example/uplink":           "fibre"`); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"holdfast", "vet"},
		{"git", "commit", "--quiet", "-S", "-a", "-m", "berlin: the store has fibre now"},
		{"holdfast", "diff", "HEAD~1", "HEAD"},
		{"git", "push", "--quiet", "origin", "main"},
	} {
		if _, err := d.run(ctx, d.work(), argv...); err != nil {
			return err
		}
	}
	if err := d.hasLabel(ctx, "kelp.example/uplink", "fibre"); err != nil {
		return err
	}
	err := d.eventually(ctx, "NodePool "+pool+" has it, too", func(ctx context.Context) error {
		out, err := d.quiet(ctx, d.dir, "kubectl", "get", "nodepool", pool, "-o", `jsonpath={.spec.labels.kelp\.example/uplink}`)
		if err == nil && out != "fibre" {
			err = fmt.Errorf("the NodePool's label is %q", out)
		}
		return err
	})
	if err != nil {
		return err
	}
	head, err := d.revision(ctx, "HEAD")
	if err != nil {
		return err
	}
	for _, node := range nodes {
		if err := d.allGood(ctx, node, head); err != nil {
			return err
		}
	}
	_, err = d.run(ctx, d.work(), "holdfast", "verify", "--anchor", d.anchor)
	return err
}

// otherTeamsPush shows that a role's paths hold.
func (d *demo) otherTeamsPush(ctx context.Context) error {
	d.step("A signed push by a team that may not change this pool is refused")
	d.say("Gina signs for the factory in Turin: pools/factory-turin/** is hers, Berlin is not.")
	if err := d.edit(poolFile, `"fibre"`, `"turin-was-here"`); err != nil {
		return err
	}
	if _, err := d.run(ctx, d.work(), d.as("gina", "commit", "--quiet", "-S", "-a", "-m", "berlin: greetings from Turin")...); err != nil {
		return err
	}
	return d.pushRefused(ctx, "PathNotPermitted")
}

// brokenPush shows that what does not evaluate does not get in, and where the mistake is.
func (d *demo) brokenPush(ctx context.Context) error {
	d.step("A signed push that breaks a rule is refused, with file and line")
	if err := d.change(ctx, poolFile, `labels: "kelp.example/role": "kiosk"`, `labels: "kelp.example/role": "a kiosk"`); err != nil {
		return err
	}
	if _, err := d.run(ctx, d.work(), "git", "commit", "--quiet", "-S", "-a", "-m", "berlin: what no label can hold"); err != nil {
		return err
	}
	return d.pushRefused(ctx, poolFile+":")
}

// unsignedPush shows the pre-receive hook refuse an unsigned commit.
func (d *demo) unsignedPush(ctx context.Context) error {
	d.step("An unsigned push is refused by the Git server's hook")
	if err := d.edit(poolFile, `"fibre"`, `"nobody-signed-this"`); err != nil {
		return err
	}
	if _, err := d.run(ctx, d.work(), "git", "commit", "--quiet", "--no-gpg-sign", "-a", "-m", "berlin: not signed"); err != nil {
		return err
	}
	return d.pushRefused(ctx, "Unsigned")
}

// pushRefused pushes the newest commit, which the hook must refuse and say why, and takes it back.
func (d *demo) pushRefused(ctx context.Context, why string) error {
	if err := d.refused(ctx, d.work(), why, "git", "push", "--quiet", "origin", "main"); err != nil {
		return err
	}
	d.shown("refused, and it says %s", why)
	_, err := d.quiet(ctx, d.work(), "git", "reset", "--quiet", "--hard", "HEAD~1")
	return err
}

// stolenServer puts an unsigned commit past the hook: the nodes refuse it.
func (d *demo) stolenServer(ctx context.Context) error {
	d.step("Whoever owns the Git server puts the unsigned commit past the hook: the nodes refuse it")
	good, err := d.revision(ctx, "HEAD")
	if err != nil {
		return err
	}
	if err := d.edit(poolFile, `"fibre"`, `"nobody-signed-this"`); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"git", "commit", "--quiet", "--no-gpg-sign", "-a", "-m", "berlin: not signed"},
		{"git", "--git-dir", d.bare(), "fetch", "--quiet", d.work(), "main:main"},
	} {
		if _, err := d.run(ctx, d.work(), argv...); err != nil {
			return err
		}
	}
	if err := d.nodesRefuse(ctx, "Unsigned", good); err != nil {
		return err
	}
	return d.serverBackTo(ctx, good)
}

// replay points the server's branch to an older commit, which is signed: the nodes refuse it.
func (d *demo) replay(ctx context.Context) error {
	d.step("The Git server replays an old signed commit: the nodes refuse it")
	good, err := d.revision(ctx, "HEAD")
	if err != nil {
		return err
	}
	d.say("The anchor is signed by Alice and says uplink=nat. But it does not descend from what the nodes accepted last.")
	if _, err := d.run(ctx, d.dir, "git", "--git-dir", d.bare(), "update-ref", "refs/heads/main", d.anchor); err != nil {
		return err
	}
	if err := d.nodesRefuse(ctx, "NotDescendant", good); err != nil {
		return err
	}
	return d.serverBackTo(ctx, good)
}

// nodesRefuse waits until both agents and the hub have refused what the server has now, and checks that the nodes are as they were.
func (d *demo) nodesRefuse(ctx context.Context, reason, good string) error {
	for _, node := range nodes {
		err := d.eventually(ctx, fmt.Sprintf("%s refuses it: %s", node, reason), func(ctx context.Context) error {
			e, err := d.edgeNode(ctx, node)
			if err != nil {
				return err
			}
			if c := e.condition("Verified"); c.Status != "False" || c.Reason != reason {
				return fmt.Errorf("EdgeNode %s: Verified is %s: %s %s", node, c.Status, c.Reason, c.Message)
			}
			if e.Status.Revision != good || e.Status.PlanDigest != e.Spec.PlanDigest {
				return fmt.Errorf("EdgeNode %s left revision %.12s for %.12s", node, good, e.Status.Revision)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	err := d.eventually(ctx, "the hub refuses it as well: NodePool "+pool+" says "+reason, func(ctx context.Context) error {
		out, err := d.quiet(ctx, d.dir, "kubectl", "get", "nodepool", pool, "-o", `jsonpath={.status.conditions[?(@.type=="Verified")].reason}`)
		if err == nil && out != reason {
			err = fmt.Errorf("the NodePool's condition Verified has the reason %q", out)
		}
		return err
	})
	if err != nil {
		return err
	}
	// The exit code is 1: the node is not at the newest revision, and says so.
	if err := d.refused(ctx, d.dir, reason, "holdfast-agent", "status", "--state", d.state(serverNode)); err != nil {
		return err
	}
	for _, node := range nodes {
		if err := d.labelIs(ctx, node, "kelp.example/uplink", "fibre"); err != nil {
			return err
		}
	}
	d.shown("both nodes keep their last good plan: uplink=fibre")
	return nil
}

// serverBackTo puts the good commit back, and waits until all is well.
func (d *demo) serverBackTo(ctx context.Context, good string) error {
	d.say("The good revision goes back in its place:")
	if _, err := d.run(ctx, d.dir, "git", "--git-dir", d.bare(), "update-ref", "refs/heads/main", good); err != nil {
		return err
	}
	if _, err := d.quiet(ctx, d.work(), "git", "reset", "--quiet", "--hard", good); err != nil {
		return err
	}
	for _, node := range nodes {
		if err := d.allGood(ctx, node, good); err != nil {
			return err
		}
	}
	return nil
}

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
