package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// namespace is where the shop's pods are, shopPods how many there are.
const (
	namespace = "shop"
	shopPods  = 4
)

// pod is what the demo reads of a Pod.
type pod struct {
	Metadata struct{ Name, UID, DeletionTimestamp string }
	Spec     struct {
		Containers  []struct{ Name string }
		Tolerations []struct {
			Key               string
			TolerationSeconds *int64
		}
	}
	Status struct {
		PodIP             string
		Conditions        []conditionOf
		ContainerStatuses []struct{ RestartCount int }
	}
}

func (p pod) ready() bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c conditionOf) bool { return c.Type == "Ready" && c.Status == "True" })
}

func (p pod) restarts() (n int) {
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}

// kept tells whether Kubernetes leaves the pod for a week on a node that it does not hear of. A DaemonSet's it leaves for ever.
func (p pod) kept() bool {
	for _, t := range p.Spec.Tolerations {
		if t.Key == "node.kubernetes.io/unreachable" {
			return t.TolerationSeconds == nil || *t.TolerationSeconds == 7*24*3600
		}
	}
	return false
}

// pods gives the shop's pods by name, as the API server has them; it must be exactly the right number.
func (d *demo) pods(ctx context.Context) (map[string]pod, error) {
	var list struct{ Items []pod }
	if err := d.lab.Request(ctx, http.MethodGet, "/api/v1/namespaces/"+namespace+"/pods", nil, &list); err != nil {
		return nil, err
	}
	pods := map[string]pod{}
	for _, p := range list.Items {
		pods[p.Metadata.Name] = p
	}
	if len(pods) != shopPods {
		return nil, fmt.Errorf("there are %d pods %v, want %d", len(pods), slices.Sorted(maps.Keys(pods)), shopPods)
	}
	return pods, nil
}

// same tells in what two looks at the pods differ: other pods, or pods that are about to go.
func same(before, after map[string]pod) error {
	for name, p := range before {
		now, ok := after[name]
		switch {
		case !ok:
			return fmt.Errorf("pod %s is gone", name)
		case now.Metadata.UID != p.Metadata.UID:
			return fmt.Errorf("pod %s is another: UID %s, was %s", name, now.Metadata.UID, p.Metadata.UID)
		case now.Metadata.DeletionTimestamp != "":
			return fmt.Errorf("pod %s is being deleted", name)
		}
	}
	return nil
}

// containers gives the shop's containers that run on the server by POD/CONTAINER, with the pods' UIDs, and the pods' addresses. Nobody but
// the kernel is asked.
func (d *demo) containers() (running, addresses map[string]string, err error) {
	list, err := d.server.Containers()
	if err != nil {
		return nil, nil, err
	}
	running, addresses = map[string]string{}, map[string]string{}
	for _, c := range list {
		if c.Namespace != namespace {
			continue
		}
		running[c.Pod+"/"+c.Name] = c.UID
		if addresses[c.Pod], err = c.Address(); err != nil {
			return nil, nil, err
		}
	}
	return running, addresses, nil
}

// containersOf tells which containers of these pods do not run on the server, or which run that should not.
func (d *demo) containersOf(pods map[string]pod) error {
	running, _, err := d.containers()
	if err != nil {
		return err
	}
	want := map[string]string{}
	for name, p := range pods {
		for _, c := range p.Spec.Containers {
			want[name+"/"+c.Name] = p.Metadata.UID
		}
	}
	if !maps.Equal(running, want) {
		return fmt.Errorf("%d of %d containers run: %v", len(running), len(want), slices.Sorted(maps.Keys(running)))
	}
	return nil
}

// deployShop starts the store's pods.
func (d *demo) deployShop(ctx context.Context) error {
	d.step("The store's server runs four pods, and is ready to be cut off")
	if _, err := d.run(ctx, "", "kubectl", "apply", "-f", "test/demo/shop.yaml"); err != nil {
		return err
	}
	err := d.eventually(ctx, "all are Ready; the pool's autonomyDuration keeps them for a week on a node that is not heard of, Kubernetes would for 5 s",
		func(ctx context.Context) error {
			pods, err := d.pods(ctx)
			for name, p := range pods {
				if !p.ready() || !p.kept() {
					return fmt.Errorf("pod %s: Ready is %t, kept on a lost node is %t", name, p.ready(), p.kept())
				}
			}
			d.before.pods = pods
			return err
		})
	if err != nil {
		return err
	}
	if err := d.serviceAnswers(ctx); err != nil {
		return err
	}
	err = d.eventually(ctx, "every request of a reboot would be answered from what the proxy has kept", func(ctx context.Context) error {
		_, err := d.quiet(ctx, d.dir, "holdfast-agent", "selftest", "--state", d.state(serverNode))
		return err
	})
	if err != nil {
		return err
	}
	_, err = d.run(ctx, d.dir, "holdfast-agent", "selftest", "--state", d.state(serverNode))
	return err
}

// serviceAnswers waits until both pods behind the Service answer at its address.
func (d *demo) serviceAnswers(ctx context.Context) error {
	var service struct{ Spec struct{ ClusterIP string } }
	if err := d.lab.Request(ctx, http.MethodGet, "/api/v1/namespaces/"+namespace+"/services/web", nil, &service); err != nil {
		return err
	}
	curl := []string{"curl", "--silent", "--show-error", "--max-time", "2", "http://" + service.Spec.ClusterIP + "/"}
	err := d.eventually(ctx, "Service web answers from both its pods", func(ctx context.Context) error {
		seen := map[string]bool{}
		for range 20 {
			out, err := d.quiet(ctx, d.dir, curl...)
			if err != nil {
				return err
			}
			seen[strings.TrimSpace(out)] = true
			if len(seen) == 2 {
				return nil
			}
		}
		return fmt.Errorf("it answers from %v", slices.Sorted(maps.Keys(seen)))
	})
	if err != nil {
		return err
	}
	_, err = d.run(ctx, d.dir, curl...)
	return err
}

// onNode runs kubectl on the server, with the kubelet's kubeconfig: through the proxy.
func (d *demo) onNode(args ...string) []string {
	return append([]string{"kubectl", "--kubeconfig", d.kubeletConf()}, args...)
}

// jsonOf runs kubectl without showing it and decodes what it prints; a warning on standard error is not part of that.
func (d *demo) jsonOf(ctx context.Context, into any, argv ...string) error {
	out, err := d.quiet(ctx, d.dir, append(argv, "-o", "json")...)
	if err != nil {
		return err
	}
	begin := strings.Index(out, "{")
	if begin < 0 {
		return fmt.Errorf("%s gave no object: %s", quote(argv), out)
	}
	return json.NewDecoder(strings.NewReader(out[begin:])).Decode(into)
}
