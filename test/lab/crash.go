package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Crash is what a power cut does to a node with a kubelet: kubelet, containerd, every container and its network are gone at once,
// with all that was mounted and all that lay in containerd's volatile state; disks keep what they had. What else runs on the node,
// kube-proxy and the agent, is for its owner to kill.
func (n *Node) Crash() error {
	n.lab.logf("lab: cutting the power of %s", n.Name)
	err := errors.Join(
		n.lab.procs.stop(n.process("kubelet")),
		n.lab.procs.stop(n.process("containerd")),
		endShims(n.path()),
		removeCgroups(cgroupPatterns(n.cgroup())),
		removeShimSockets(n.path("state")),
		unmountBelow(n.path()),
	)
	if err != nil {
		return fmt.Errorf("crash node %s: %w", n.Name, err)
	}
	return os.RemoveAll(n.path("state"))
}

// Boot starts containerd after a Crash. The kubelet is for the caller to start: see LaunchKubelet.
func (n *Node) Boot(ctx context.Context) error {
	n.lab.logf("lab: starting %s again", n.Name)
	if err := n.makeCgroup(); err != nil {
		return err
	}
	return n.launchContainerd(ctx)
}
