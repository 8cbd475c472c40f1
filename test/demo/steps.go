package main

import (
	"context"
	"fmt"
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
