package kubelet

import (
	"fmt"

	"sigs.k8s.io/yaml"
)

// ours gives the kubeconfig that the kubelet uses behind the proxy.
func (o Options) ours(original string) ([]byte, error) {
	raw, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "holdfast",
		"clusters": []any{map[string]any{"name": "holdfast", "cluster": map[string]any{"server": o.Server, "certificate-authority-data": o.CA}}},
		"users":    []any{map[string]any{"name": "kubelet", "user": map[string]any{"client-certificate-data": o.Cert, "client-key-data": o.Key}}},
		"contexts": []any{map[string]any{"name": "holdfast", "context": map[string]string{"cluster": "holdfast", "user": "kubelet"}}},
	})
	head := fmt.Sprintf("# holdfast-agent wrote this: the kubelet talks to the API server through the autonomy proxy on this node.\n"+
		"# What was here is in %s; `holdfast-agent proxy detach` puts it back.\n", original)
	return append([]byte(head), raw...), err
}

// leadsTo tells whether a kubeconfig names a server.
func leadsTo(raw []byte, server string) bool {
	var c struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
			} `json:"cluster"`
		} `json:"clusters"`
	}
	if yaml.Unmarshal(raw, &c) != nil {
		return false
	}
	for _, cl := range c.Clusters {
		if cl.Cluster.Server == server {
			return true
		}
	}
	return false
}
