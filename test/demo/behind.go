package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// proxyAddress is where the kubelet and kube-proxy reach the agent's proxy, its default.
const proxyAddress = "https://127.0.0.1:6440"

// kubeletConf is the kubeconfig of the server's kubelet, where kubeadm would have /etc/kubernetes/kubelet.conf.
func (d *demo) kubeletConf() string { return filepath.Join(d.dir, "kubelet.conf") }

// writeKubeletConf writes it as kubeadm does: it leads straight to the API server, over the line that will be cut.
func (d *demo) writeKubeletConf() error {
	raw, err := os.ReadFile(d.server.Kubeconfig)
	if err != nil {
		return err
	}
	d.before.kubeletConf = []byte(strings.ReplaceAll(string(raw), d.lab.Server(), d.link.Server))
	return os.WriteFile(d.kubeletConf(), d.before.kubeletConf, 0o600)
}

// lineAddress is the server's own way out: what it asks there does not arrive once the line is cut.
func (d *demo) lineAddress() (string, error) {
	u, err := url.Parse(d.link.Server)
	if err != nil {
		return "", err
	}
	return u.Hostname(), nil
}

// behindProxy has the server's kubelet and a kube-proxy talk to the API server through the agent.
func (d *demo) behindProxy(ctx context.Context) error {
	d.step("The store's server is behind the autonomy proxy: the agent is the kubelet's way to the API server")
	d.say("Enrolment made the kubelet's kubeconfig lead to %s and kept the original beside it. The kubelet is restarted:", proxyAddress)
	if _, err := d.run(ctx, d.dir, "holdfast-agent", "proxy", "check", "--state", d.state(serverNode)); err != nil {
		return err
	}
	if err := d.server.StopKubelet(); err != nil {
		return err
	}
	d.server.Kubeconfig = d.kubeletConf()
	if err := d.server.StartKubelet(ctx); err != nil {
		return err
	}
	d.say("kube-proxy goes the same way, with its service account's token:")
	for _, argv := range [][]string{
		{"kubectl", "create", "serviceaccount", "kube-proxy", "--namespace=kube-system"},
		{"kubectl", "create", "clusterrolebinding", "kube-proxy", "--clusterrole=system:node-proxier", "--serviceaccount=kube-system:kube-proxy"},
	} {
		if _, err := d.run(ctx, d.dir, argv...); err != nil {
			return err
		}
	}
	if err := d.writeKubeProxyConf(ctx); err != nil {
		return err
	}
	if _, err := d.server.StartKubeProxy(d.kubeProxyConf()); err != nil {
		return err
	}
	return d.eventually(ctx, "kubectl on the node, through the proxy, sees the node", func(ctx context.Context) error {
		_, err := d.quiet(ctx, d.dir, d.onNode("get", "node", serverNode)...)
		return err
	})
}

func (d *demo) kubeProxyConf() string { return filepath.Join(d.dir, "kube-proxy.conf") }

// writeKubeProxyConf writes what the ConfigMap kube-system/kube-proxy and the pod's mounted token come to.
func (d *demo) writeKubeProxyConf(ctx context.Context) error {
	token, err := d.quiet(ctx, d.dir, "kubectl", "create", "token", "kube-proxy", "--namespace=kube-system", "--duration=24h")
	if err != nil {
		return err
	}
	type object = map[string]any
	config, err := json.Marshal(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "proxy",
		"clusters": []object{{"name": "proxy", "cluster": object{"server": proxyAddress, "certificate-authority": filepath.Join(d.state(serverNode), "tls", "ca.crt")}}},
		"users":    []object{{"name": "kube-proxy", "user": object{"token": strings.TrimSpace(token)}}},
		"contexts": []object{{"name": "proxy", "context": object{"cluster": "proxy", "user": "kube-proxy"}}},
	})
	if err != nil {
		return fmt.Errorf("kubeconfig of kube-proxy: %w", err)
	}
	return os.WriteFile(d.kubeProxyConf(), config, 0o600)
}

// takeOut has the kubelet talk to the API server itself again.
func (d *demo) takeOut(ctx context.Context) error {
	d.step("And out again: the kubelet talks to the API server itself, as before")
	if err := d.lab.Stop(agentProcess(serverNode)); err != nil {
		return err
	}
	if _, err := d.run(ctx, d.dir, "holdfast-agent", "proxy", "detach", "--state", d.state(serverNode)); err != nil {
		return err
	}
	now, err := os.ReadFile(d.kubeletConf())
	if err != nil {
		return err
	}
	if !bytes.Equal(now, d.before.kubeletConf) {
		return fmt.Errorf("%s is not as it was before enrolment", d.kubeletConf())
	}
	d.shown("every byte of the kubelet's kubeconfig is as it was before enrolment")
	if err := d.server.StopKubelet(); err != nil {
		return err
	}
	stopped := time.Now()
	if err := d.server.StartKubelet(ctx); err != nil {
		return err
	}
	return d.eventually(ctx, "the kubelet renews its lease, and no agent runs", func(ctx context.Context) error {
		var lease struct{ Spec struct{ RenewTime time.Time } }
		if err := d.lab.Request(ctx, http.MethodGet, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/"+serverNode, nil, &lease); err != nil {
			return err
		}
		if !lease.Spec.RenewTime.After(stopped) {
			return fmt.Errorf("it was renewed at %s last, before the kubelet stopped", lease.Spec.RenewTime)
		}
		return nil
	})
}
