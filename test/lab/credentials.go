package lab

import (
	"encoding/base64"
	"encoding/json"
	"path/filepath"
)

// NodeKubeconfig gives the file of a kubeconfig for a node's own user, system:node:NAME. The node need not exist.
func (l *Lab) NodeKubeconfig(name string) (string, error) {
	return l.Kubeconfig("node-"+name, "system:node:"+name, "system:nodes")
}

// Kubeconfig gives the file of a kubeconfig for any user with any groups. Its certificate is made new at each call; the file
// carries all that is in it and may be moved.
func (l *Lab) Kubeconfig(file, user string, groups ...string) (string, error) {
	p, err := l.ca.client(user, groups...)
	if err != nil {
		return "", err
	}
	return l.writeKubeconfig(file, p)
}

func (l *Lab) kubeconfigFile(name string) string {
	return filepath.Join(l.Dir, "kubeconfigs", name+".kubeconfig")
}

// writeKubeconfig writes JSON, which is YAML too, so that the lab needs no YAML library.
func (l *Lab) writeKubeconfig(name string, p pair) (string, error) {
	type object = map[string]any
	data, err := json.MarshalIndent(object{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": "lab",
		"clusters": []object{{"name": "lab", "cluster": object{
			"server": l.Server(), "certificate-authority-data": base64.StdEncoding.EncodeToString(l.ca.pem)}}},
		"users": []object{{"name": name, "user": object{
			"client-certificate-data": base64.StdEncoding.EncodeToString(p.cert),
			"client-key-data":         base64.StdEncoding.EncodeToString(p.key)}}},
		"contexts": []object{{"name": "lab", "context": object{"cluster": "lab", "user": name}}},
	}, "", "  ")
	if err != nil {
		return "", err
	}
	file := l.kubeconfigFile(name)
	return file, writeFile(file, append(data, '\n'))
}

// writeControlPlaneCredentials makes every certificate, key and kubeconfig the control plane needs.
func (l *Lab) writeControlPlaneCredentials() error {
	admin, err := l.ca.client("holdfast-lab-admin", "system:masters")
	if err != nil {
		return err
	}
	if err := l.ca.write(l.Dir, "admin", admin); err != nil {
		return err
	}
	if _, err := l.writeKubeconfig("admin", admin); err != nil {
		return err
	}
	hosts := []string{"127.0.0.1", "::1", "localhost", "10.96.0.1",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	if l.opts.Services {
		hosts = append(hosts, l.network.gateway())
		for i := range byte(maxLinks) {
			hosts = append(hosts, l.links.address(i+1))
		}
	}
	server, err := l.ca.server("kube-apiserver", hosts...)
	if err != nil {
		return err
	}
	if err := l.ca.write(l.Dir, "apiserver", server); err != nil {
		return err
	}
	kubelets, err := l.ca.client("kube-apiserver-kubelet-client", "system:masters")
	if err != nil {
		return err
	}
	if err := l.ca.write(l.Dir, "kubelet-client", kubelets); err != nil {
		return err
	}
	tokens, err := l.ca.client("service-account-tokens") // the key signs tokens, the certificate carries its public half
	if err != nil {
		return err
	}
	return l.ca.write(l.Dir, "tokens", tokens)
}
