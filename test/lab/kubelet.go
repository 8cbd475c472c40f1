package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sort"
	"strings"

	"sigs.k8s.io/yaml"
)

// startKubelet starts the node's containerd and kubelet, and waits until the node is Ready.
func (n *Node) startKubelet(ctx context.Context, opts NodeOptions) error {
	if os.Geteuid() != 0 {
		return errors.New("a kubelet needs root")
	}
	var err error
	if n.subnet, err = freeSubnet(); err != nil {
		return err
	}
	n.bridge = fmt.Sprintf("hf%d-%d", n.lab.port, n.index)
	if err := n.makeCgroup(); err != nil {
		return err
	}
	if err := n.startContainerd(ctx, opts); err != nil {
		return err
	}
	if err := n.writeKubeletFiles(); err != nil {
		return err
	}
	n.labels, n.older = opts.Labels, opts.Older
	return n.StartKubelet(ctx)
}

// StartKubelet starts the kubelet and waits until the node is Ready. AddNode does so by itself; it is there for tests
// that called StopKubelet.
func (n *Node) StartKubelet(ctx context.Context) error {
	p, err := n.LaunchKubelet()
	if err != nil {
		return err
	}
	return p.WaitReady(ctx, n.ready)
}

// LaunchKubelet starts the kubelet with n.Kubeconfig and waits for nothing: a node that is cut off never is Ready for the API
// server.
func (n *Node) LaunchKubelet() (*Process, error) {
	version := KubernetesVersion
	if n.older {
		version = OlderVersion
	}
	path, err := programOf(version, "kubelet")
	if err != nil {
		return nil, err
	}
	n.lab.logf("lab: starting the kubelet of %s", n.Name)
	args := []string{
		"--config=" + n.KubeletConfig(), "--kubeconfig=" + n.Kubeconfig, "--hostname-override=" + n.Name,
		"--root-dir=" + n.path("kubelet"), "--cert-dir=" + n.path("pki"), "--node-ip=" + n.subnet.gateway(),
	}
	if len(n.labels) > 0 {
		args = append(args, "--node-labels="+joinLabels(n.labels))
	}
	return n.lab.procs.start(n.process("kubelet"), path, args...)
}

// KubeletConfig is the file of the kubelet's configuration, in YAML.
func (n *Node) KubeletConfig() string { return n.path("kubelet.yaml") }

// KubeletCertDir is the folder of the kubelet's own certificates.
func (n *Node) KubeletCertDir() string { return n.path("pki") }

// StopKubelet ends the kubelet at once; containers go on running.
func (n *Node) StopKubelet() error {
	n.lab.logf("lab: stopping the kubelet of %s", n.Name)
	return n.lab.procs.stop(n.process("kubelet"))
}

// ready asks the API server whether the node is.
func (n *Node) ready(ctx context.Context) error {
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := n.lab.Request(ctx, http.MethodGet, "/api/v1/nodes/"+n.Name, nil, &node); err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == "Ready" && c.Status == "True" {
			return nil
		}
		if c.Type == "Ready" {
			return fmt.Errorf("node %s is not Ready: %s", n.Name, c.Message)
		}
	}
	return fmt.Errorf("node %s has no condition Ready yet", n.Name)
}

// writeKubeletFiles writes the kubelet's serving certificate and configuration. Every folder is the node's own, every port free.
func (n *Node) writeKubeletFiles() error {
	serving, err := n.lab.ca.server(n.Name, n.Name, n.subnet.gateway(), "127.0.0.1")
	if err != nil {
		return err
	}
	if err := n.lab.ca.write(n.path(), "kubelet", serving); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	type object = map[string]any
	config, err := yaml.Marshal(object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address": n.subnet.gateway(), "port": port, "readOnlyPort": 0, "healthzPort": 0,
		"tlsCertFile": n.path("pki", "kubelet.crt"), "tlsPrivateKeyFile": n.path("pki", "kubelet.key"),
		"containerRuntimeEndpoint": "unix://" + n.socket(),
		"podLogsDir":               n.path("logs"), "volumePluginDir": n.path("volumeplugins"), "staticPodPath": n.path("manifests"),
		"cgroupDriver": "cgroupfs", "cgroupRoot": n.cgroup(),
		// The lab runs where these would stop a kubelet: cgroup v1, swap, a root file system nobody can measure, another's iptables.
		"failCgroupV1": false, "failSwapOn": false, "localStorageCapacityIsolation": false, "makeIPTablesUtilChains": false,
		"evictionHard":   object{"memory.available": "100Mi"},
		"authentication": object{"anonymous": object{"enabled": false}, "webhook": object{"enabled": true}, "x509": object{"clientCAFile": n.lab.CAFile()}},
		"authorization":  object{"mode": "Webhook"},
		// A node without a link must notice at once in tests, and one laptop runs several.
		"nodeStatusUpdateFrequency": "5s", "syncFrequency": "10s",
		"clusterDNS": []string{}, "resolvConf": "", "registerNode": true, "maxPods": 120,
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(n.path("manifests"), 0o700); err != nil {
		return err
	}
	return writeFile(n.KubeletConfig(), config)
}

func joinLabels(labels map[string]string) string {
	var pairs []string
	for key, value := range labels {
		pairs = append(pairs, key+"="+value)
	}
	sort.Strings(pairs)
	return strings.Join(pairs, ",")
}
