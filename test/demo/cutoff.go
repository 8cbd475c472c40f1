package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Settings of Kubernetes that make it give a node up in seconds rather than minutes, so that the demo can wait for it.
var (
	impatient = []string{"--node-monitor-grace-period=15s"}
	evicting  = []string{"--default-unreachable-toleration-seconds=5", "--default-not-ready-toleration-seconds=5"}
)

// cutLine cuts the server off: from the API server and from Git.
func (d *demo) cutLine(ctx context.Context) error {
	d.step("An excavator cuts the store's line: every packet is dropped, nothing is refused")
	if err := d.link.Cut(); err != nil {
		return err
	}
	d.cutAt = time.Now()
	const warning = "Warning: holdfast: offline"
	err := d.eventually(ctx, "the agent noticed, and answers from what it kept", func(ctx context.Context) error {
		out, err := d.quiet(ctx, d.dir, d.onNode("get", "node", serverNode)...)
		if err == nil && !strings.Contains(out, warning) {
			err = errors.New("kubectl on the node is answered by the API server")
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, err := d.run(ctx, d.dir, d.onNode("get", "node", serverNode)...); err != nil {
		return err
	}
	d.say("Meanwhile Alice pushes a change. The till has another line and takes it; the server cannot know:")
	if err := d.change(ctx, poolFile, `"kelp.example/uplink":           "fibre"`, `"kelp.example/uplink":           "lte"`); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"git", "commit", "--quiet", "-S", "-a", "-m", "berlin: LTE until the fibre is mended"},
		{"git", "push", "--quiet", "origin", "main"},
	} {
		if _, err := d.run(ctx, d.work(), argv...); err != nil {
			return err
		}
	}
	return d.eventually(ctx, "the till has kelp.example/uplink=lte", func(ctx context.Context) error {
		return d.labelIs(ctx, tillNode, "kelp.example/uplink", "lte")
	})
}

// powerCut ends everything on the server at once and boots it, with the line still cut.
func (d *demo) powerCut(ctx context.Context) error {
	d.step("Then the power fails. The server boots with no line, and its pods come back")
	if err := errors.Join(d.lab.Stop(agentProcess(serverNode)), d.server.StopKubeProxy(), d.server.Crash()); err != nil {
		return err
	}
	running, _, err := d.containers()
	if err != nil {
		return err
	}
	if len(running) != 0 {
		return fmt.Errorf("after the power cut %d containers run: %v", len(running), running)
	}
	d.shown("agent, kubelet, kube-proxy, containerd and every container are gone, as kill -9 does it")
	if err := d.server.Boot(ctx); err != nil {
		return err
	}
	if err := d.runAgent(serverNode); err != nil {
		return err
	}
	if _, err := d.server.LaunchKubelet(); err != nil {
		return err
	}
	if _, err := d.server.StartKubeProxy(d.kubeProxyConf()); err != nil {
		return err
	}
	err = d.eventually(ctx, "the kernel says: all containers run, of the pods they were of", func(context.Context) error { return d.containersOf(d.before.pods) })
	if err != nil {
		return err
	}
	if err := d.worksOffline(ctx); err != nil {
		return err
	}
	return d.keptByCluster(ctx)
}

// worksOffline shows what somebody who stands in the store can do.
func (d *demo) worksOffline(ctx context.Context) error {
	d.say("Somebody in the store logs in to the server. kubectl works, with the kubelet's kubeconfig:")
	mine := d.onNode("get", "pods", "--namespace", namespace, "--field-selector", "spec.nodeName="+serverNode)
	err := d.eventually(ctx, "kubectl on the node says that all are Ready, at the addresses that they have since the boot", func(ctx context.Context) error {
		var list struct{ Items []pod }
		if err := d.jsonOf(ctx, &list, mine...); err != nil {
			return err
		}
		return d.rightAddresses(list.Items)
	})
	if err != nil {
		return err
	}
	if _, err := d.run(ctx, d.dir, append(mine, "-o", "wide")...); err != nil {
		return err
	}
	if err := d.serviceAnswers(ctx); err != nil {
		return err
	}
	exec := d.onNode("exec", "--namespace", namespace, "ledger-0", "--", "/lab-image", "cat", "/things/list.txt", "/things/pin")
	if out, err := d.run(ctx, d.dir, exec...); err != nil {
		return err
	} else if !strings.Contains(out, "pear 2") || !strings.Contains(out, "4711") {
		return errors.New("the volume of ledger-0 lacks its ConfigMap or its Secret")
	}
	if out, err := d.quiet(ctx, d.dir, d.onNode("exec", "--namespace", namespace, "ledger-0", "--", "/lab-image", "cat", "/things/token")...); err != nil {
		return err
	} else if !strings.Contains(out, "eyJ") {
		return errors.New("the volume of ledger-0 lacks its token")
	}
	d.shown("kubectl exec works; ConfigMap, Secret and the service account's token are in their volume")
	logs := d.onNode("logs", "--namespace", namespace, "ledger-0")
	if out, err := d.run(ctx, d.dir, logs...); err != nil {
		return err
	} else if !strings.Contains(out, "serving on port") {
		return errors.New("kubectl logs gave no log")
	}
	return nil
}

// rightAddresses tells which pod is not Ready, or has an address that its network namespace does not have.
func (d *demo) rightAddresses(pods []pod) error {
	_, addresses, err := d.containers()
	if err != nil {
		return err
	}
	if len(pods) != len(addresses) {
		return fmt.Errorf("%d pods are listed, %d run", len(pods), len(addresses))
	}
	for _, p := range pods {
		if name := p.Metadata.Name; !p.ready() || p.Status.PodIP != addresses[name] {
			return fmt.Errorf("pod %s: Ready is %t; its address is %s, its status says %s", name, p.ready(), addresses[name], p.Status.PodIP)
		}
	}
	return nil
}

// keptByCluster waits until Kubernetes gave the server up and would have evicted its pods, and checks that it did not.
func (d *demo) keptByCluster(ctx context.Context) error {
	d.say("What no one can promise without the API server is refused, never pretended:")
	if err := d.refused(ctx, d.dir, "ServiceUnavailable", d.onNode("delete", "pod", "ledger-0", "--namespace", namespace, "--wait=false")...); err != nil {
		return err
	}
	err := d.eventually(ctx, "the cluster gave the server up: it is unreachable, and five seconds later its pods would be evicted", func(ctx context.Context) error {
		lost, err := d.lostSince(ctx)
		if err == nil && (lost.IsZero() || time.Since(lost) < 10*time.Second) {
			err = fmt.Errorf("the node has been given up since %s", lost)
		}
		return err
	})
	if err != nil {
		return err
	}
	after, err := d.pods(ctx)
	if err == nil {
		err = same(d.before.pods, after)
	}
	if err != nil {
		return err
	}
	d.shown("but none is: the hub saw to that when they were made")
	_, err = d.run(ctx, d.dir, "kubectl", "get", "nodes")
	return err
}

// lostSince is since when the cluster takes the server for lost.
func (d *demo) lostSince(ctx context.Context) (time.Time, error) {
	var node struct {
		Spec struct {
			Taints []struct {
				Key, Effect string
				TimeAdded   time.Time
			}
		}
	}
	if err := d.lab.Request(ctx, http.MethodGet, "/api/v1/nodes/"+serverNode, nil, &node); err != nil {
		return time.Time{}, err
	}
	for _, t := range node.Spec.Taints {
		if t.Key == "node.kubernetes.io/unreachable" && t.Effect == "NoExecute" {
			return t.TimeAdded, nil
		}
	}
	return time.Time{}, nil
}

// lineIsBack mends the line: nothing was lost, and nothing has to be done.
func (d *demo) lineIsBack(ctx context.Context) error {
	d.step("The line is mended: the same pods, and nothing was lost")
	if err := d.link.Restore(); err != nil {
		return err
	}
	d.say("The server was cut off for %s.", time.Since(d.cutAt).Round(time.Second))
	var after map[string]pod
	err := d.eventually(ctx, "the cluster has the same pods, by their UIDs, all Ready, at the addresses that they really have", func(ctx context.Context) error {
		var err error
		if after, err = d.pods(ctx); err != nil {
			return err
		}
		list := make([]pod, 0, len(after))
		for _, p := range after {
			list = append(list, p)
		}
		return errors.Join(same(d.before.pods, after), d.rightAddresses(list))
	})
	if err != nil {
		return err
	}
	for name, p := range after {
		if want := d.before.pods[name].restarts() + len(p.Spec.Containers); p.restarts() != want {
			return fmt.Errorf("pod %s has %d restarts, want %d: one for each container", name, p.restarts(), want)
		}
	}
	d.shown("each container was started once more, by the boot, and not by anything since")
	if err := d.containersOf(d.before.pods); err != nil {
		return err
	}
	if _, err := d.run(ctx, d.dir, "kubectl", "get", "pods", "--namespace", namespace, "-o", "wide"); err != nil {
		return err
	}
	head, err := d.revision(ctx, "HEAD")
	if err != nil {
		return err
	}
	if err := d.hasLabel(ctx, "kelp.example/uplink", "lte"); err != nil {
		return err
	}
	for _, node := range nodes {
		if err := d.allGood(ctx, node, head); err != nil {
			return err
		}
	}
	return d.serviceAnswers(ctx)
}
