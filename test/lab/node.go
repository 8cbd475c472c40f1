package lab

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

// NodeOptions describe a node to add.
type NodeOptions struct {
	// Name is the node's name, a DNS label.
	Name string
	// Kubelet starts a real kubelet with its own containerd and network; the process must be root. Without it the lab only
	// registers a Node object, which is enough for what goes through the API alone.
	Kubelet bool
	// Older starts the kubelet of OlderVersion.
	Older bool
	// Informer gives a node with a kubelet InformerImage too.
	Informer bool
	// Labels are set when the node is registered.
	Labels map[string]string
}

// Node is one node of a lab.
type Node struct {
	Name string
	// Kubeconfig is the file of a kubeconfig for the node's own user, system:node:NAME.
	Kubeconfig string

	lab *Lab
	// index is the node's place in the lab, from 1; it numbers its folder, bridge and addresses.
	index int

	// What follows is set for a node with a kubelet.
	older  bool
	labels map[string]string
	bridge string
	subnet subnet
}

// path is a path in the node's folder; names are short there, because sockets' paths are bounded.
func (n *Node) path(parts ...string) string {
	return filepath.Join(append([]string{n.lab.Dir, "nodes", strconv.Itoa(n.index)}, parts...)...)
}

// process is the name of one of the node's programs in pids/ and logs/.
func (n *Node) process(program string) string { return fmt.Sprintf("%s-%d", program, n.index) }

// AddNode adds a node and waits until it is Ready.
func (l *Lab) AddNode(ctx context.Context, opts NodeOptions) (*Node, error) {
	kubeconfig, err := l.NodeKubeconfig(opts.Name)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	n := &Node{Name: opts.Name, Kubeconfig: kubeconfig, lab: l, index: len(l.nodes) + 1}
	l.nodes = append(l.nodes, n)
	l.mu.Unlock()
	if opts.Kubelet {
		err = n.startKubelet(ctx, opts)
	} else {
		err = n.register(ctx, opts)
	}
	if err != nil {
		return nil, fmt.Errorf("add node %s: %w", opts.Name, err)
	}
	return n, nil
}

// register makes the Node object as a kubelet would, and says once that it is Ready.
func (n *Node) register(ctx context.Context, opts NodeOptions) error {
	type object = map[string]any
	labels := map[string]string{
		"kubernetes.io/hostname": n.Name, "kubernetes.io/os": "linux", "kubernetes.io/arch": runtime.GOARCH,
	}
	for key, value := range opts.Labels {
		labels[key] = value
	}
	node := object{"apiVersion": "v1", "kind": "Node", "metadata": object{"name": n.Name, "labels": labels}}
	if err := n.lab.Request(ctx, http.MethodPost, "/api/v1/nodes", node, nil); err != nil {
		return err
	}
	now := time.Now().UTC().Format(time.RFC3339)
	status := object{"status": object{
		"conditions": []object{{"type": "Ready", "status": "True", "reason": "Registered",
			"message": "registered by the lab, without a kubelet", "lastHeartbeatTime": now, "lastTransitionTime": now}},
		"nodeInfo": object{"machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "lab",
			"containerRuntimeVersion": "", "kubeletVersion": KubernetesVersion, "kubeProxyVersion": "",
			"operatingSystem": "linux", "architecture": runtime.GOARCH},
	}}
	return n.lab.Request(ctx, http.MethodPatch, "/api/v1/nodes/"+n.Name+"/status", status, nil)
}
