package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-dev/holdfast/test/lab"
)

// Nodes of the demo, by their names in the example fleet. Each is a kubelet with a containerd of its own.
const (
	serverNode = "berlin-server"
	tillNode   = "berlin-till-1"
	pool       = "store-berlin"
)

var nodes = []string{serverNode, tillNode}

// startCluster starts Kubernetes with the demo's two nodes.
func (d *demo) startCluster(ctx context.Context, keep bool) error {
	d.step("A cluster with two nodes")
	var err error
	d.lab, err = lab.Start(ctx, lab.Options{Name: labName, Keep: keep, Controllers: true, Services: true,
		ControllerFlags: impatient, APIServerFlags: evicting, Log: indented{d.out}})
	if err != nil {
		return err
	}
	if d.link, err = d.lab.NewLink(); err != nil {
		return err
	}
	d.dir = filepath.Join(d.lab.Dir, "demo")
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	kubectl, err := lab.Program("kubectl")
	if err != nil {
		return err
	}
	if err := os.Setenv("PATH", filepath.Dir(kubectl)+string(os.PathListSeparator)+os.Getenv("PATH")); err != nil {
		return err
	}
	d.env = append(d.env, "KUBECONFIG="+d.lab.AdminKubeconfig(), "KUBECACHEDIR="+filepath.Join(d.dir, "kubectl"))
	for _, name := range nodes {
		node, err := d.lab.AddNode(ctx, lab.NodeOptions{Name: name, Kubelet: true})
		if err != nil {
			return err
		}
		if name == serverNode {
			d.server = node
		}
	}
	if _, err := d.run(ctx, d.dir, "kubectl", "get", "nodes"); err != nil {
		return err
	}
	d.shown("two kubelets, each with a containerd of its own, are Ready")
	return nil
}

// indented puts the lab's lines under the step they belong to.
type indented struct {
	out interface{ Write([]byte) (int, error) }
}

func (w indented) Write(line []byte) (int, error) {
	if _, err := fmt.Fprintf(w.out, "     %s", line); err != nil {
		return 0, err
	}
	return len(line), nil
}

// hubUser is who the hub is to the API server.
const hubUser = "holdfast-hub"

// startHub installs what the cluster needs and starts the hub.
func (d *demo) startHub(ctx context.Context) error {
	d.step("What the cluster needs: kinds, roles, admission policies, and the hub")
	if _, err := d.run(ctx, d.dir, "holdfast", "install"); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"kubectl", "create", "namespace", "holdfast-system"},
		{"kubectl", "create", "clusterrolebinding", "holdfast-hub", "--clusterrole=holdfast-hub", "--user=" + hubUser},
		{"kubectl", "create", "rolebinding", "holdfast-hub", "--namespace=holdfast-system", "--clusterrole=holdfast-hub-state", "--user=" + hubUser},
	} {
		if _, err := d.quiet(ctx, d.dir, argv...); err != nil {
			return err
		}
	}
	kubeconfig, err := d.lab.Kubeconfig("hub", hubUser)
	if err != nil {
		return err
	}
	argv := []string{"holdfast-hub", "run", "--repo", d.url, "--ca", d.ca(), "--branch", "main", "--anchor", d.anchor,
		"--kubeconfig", kubeconfig, "--state", filepath.Join(d.dir, "hub"), "--listen", "127.0.0.1:0", "--poll-interval", "2s"}
	if err := d.background("hub", argv); err != nil {
		return err
	}
	return d.eventually(ctx, "the hub read the fleet repo and wrote its five pools into the cluster", func(ctx context.Context) error {
		out, err := d.quiet(ctx, d.dir, "kubectl", "get", "nodepools", "-o", "name")
		if got := len(strings.Fields(out)); err == nil && got != 5 {
			err = fmt.Errorf("there are %d NodePools", got)
		}
		return err
	})
}

// enrollNodes enrols and starts an agent for each node. The server goes behind the proxy; of the two nodes on this machine only one can.
func (d *demo) enrollNodes(ctx context.Context) error {
	d.step("Two agents, enrolled with one line each")
	if err := d.writeKubeletConf(); err != nil {
		return err
	}
	till, err := d.lab.NodeKubeconfig(tillNode)
	if err != nil {
		return err
	}
	own := map[string][]string{
		serverNode: {"--repo", d.lineURL, "--kubeconfig", d.kubeletConf(),
			"--kubelet-config", d.server.KubeletConfig(), "--kubelet-cert-dir", d.server.KubeletCertDir()},
		tillNode: {"--repo", d.url, "--kubeconfig", till, "--proxy=false"},
	}
	for _, node := range nodes {
		argv := []string{"holdfast-agent", "enroll", "--node", node, "--branch", "main", "--anchor", d.anchor, "--ca", d.ca(), "--state", d.state(node)}
		if _, err := d.run(ctx, d.dir, append(argv, own[node]...)...); err != nil {
			return err
		}
		if err := d.runAgent(node); err != nil {
			return err
		}
	}
	return d.enrolled(ctx)
}

// agentProcess is the name of a node's agent in the lab.
func agentProcess(node string) string { return "agent-" + node }

// runAgent starts a node's agent.
func (d *demo) runAgent(node string) error {
	argv := []string{"holdfast-agent", "run", "--state", d.state(node), "--address", "127.0.0.1:0"}
	if node != serverNode {
		argv = append(argv, "--proxy-address", "off", "--pod-address", "off")
	}
	return d.background(agentProcess(node), argv)
}

// enrolled checks what the agents and the hub made of the nodes.
func (d *demo) enrolled(ctx context.Context) error {
	for _, node := range nodes {
		if err := d.allGood(ctx, node, d.anchor); err != nil {
			return err
		}
	}
	if err := d.hasLabel(ctx, "kelp.example/uplink", "nat"); err != nil {
		return err
	}
	err := d.eventually(ctx, "the hub put the till's taint and the pool's label on the Node, which a node may not do", func(ctx context.Context) error {
		out, err := d.quiet(ctx, d.dir, "kubectl", "get", "node", tillNode, "-o",
			`jsonpath={.metadata.labels.fleet\.holdfast\.dev/pool} {.spec.taints[?(@.key=="kelp.example/till")].effect}`)
		if want := pool + " NoSchedule"; err == nil && out != want {
			err = fmt.Errorf("pool and effect are %q, want %q", out, want)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := d.poolCounts(ctx); err != nil {
		return err
	}
	return d.showCluster(ctx)
}

// background starts one of the programs as a part of the lab, and shows it as one would type it.
func (d *demo) background(name string, argv []string) error {
	fmt.Fprintf(d.out, "   %s\n", d.paint("36", "$ "+quote(argv)+" &"))
	path := filepath.Join(strings.SplitN(os.Getenv("PATH"), string(os.PathListSeparator), 3)[1], argv[0])
	_, err := d.lab.Run(lab.Command{Name: name, Path: path, Args: argv[1:], Dir: d.dir})
	return err
}

func (d *demo) ca() string               { return filepath.Join(d.git(), gitCAFile) }
func (d *demo) state(node string) string { return filepath.Join(d.dir, "nodes", node) }
