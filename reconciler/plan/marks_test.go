package plan

import "testing"

func TestNodeMaySet(t *testing.T) {
	for label, want := range map[string]bool{
		"tier":                                     true,
		"example.com/tier":                         true,
		"notkubernetes.io/tier":                    true,
		"kubernetes.io/hostname":                   true,
		"kubernetes.io/arch":                       true,
		"topology.kubernetes.io/zone":              true,
		"topology.kubernetes.io/rack":              false,
		"node.kubernetes.io/anything":              true,
		"gpu.node.kubernetes.io/model":             true,
		"kubelet.kubernetes.io/x":                  true,
		"x.kubelet.kubernetes.io/x":                true,
		"notkubelet.kubernetes.io/x":               false,
		"kubernetes.io/role":                       false,
		"node-role.kubernetes.io/edge":             false,
		"node-restriction.kubernetes.io/site":      false,
		"a.node-restriction.kubernetes.io/site":    false,
		"a.node.kubernetes.io/site/x":              true,
		"k8s.io/x":                                 false,
		"cluster.k8s.io/x":                         false,
		"beta.kubernetes.io/arch":                  true,
		"failure-domain.beta.kubernetes.io/region": true,
		"fleet.holdfast.dev/pool":                  false,
		"fleet.holdfast.dev/x":                     false,
		"my.fleet.holdfast.dev/x":                  true,
	} {
		if got := NodeMaySet(label); got != want {
			t.Errorf("NodeMaySet(%q) = %v, want %v", label, got, want)
		}
	}
}
