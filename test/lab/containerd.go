package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// cniPlugins is where Debian's package containernetworking-plugins puts its programs.
const cniPlugins = "/usr/lib/cni"

// startContainerd starts the node's own containerd with its own root, state, socket and network, and gives it the images.
func (n *Node) startContainerd(ctx context.Context, opts NodeOptions) error {
	if err := n.writeNetwork(); err != nil {
		return err
	}
	if err := writeFile(n.path("containerd.toml"), []byte(n.containerdConfig())); err != nil {
		return err
	}
	if err := n.launchContainerd(ctx); err != nil {
		return err
	}
	programs := []program{basicImages()}
	if opts.Informer {
		programs = append(programs, informerImages())
	}
	for _, p := range programs {
		archive, err := p.archive(ctx)
		if err != nil {
			return err
		}
		if err := n.ctr(ctx, "images", "import", archive); err != nil {
			return err
		}
	}
	return nil
}

// launchContainerd starts containerd as it is configured, and waits until it answers.
func (n *Node) launchContainerd(ctx context.Context) error {
	path, err := hostProgram("containerd")
	if err != nil {
		return err
	}
	p, err := n.lab.procs.start(n.process("containerd"), path, "--config", n.path("containerd.toml"))
	if err != nil {
		return err
	}
	return p.WaitReady(ctx, n.criReady)
}

// ctr runs containerd's own client in the kubelet's namespace.
func (n *Node) ctr(ctx context.Context, args ...string) error {
	path, err := hostProgram("ctr")
	if err != nil {
		return err
	}
	args = append([]string{"--address", n.socket(), "--namespace", "k8s.io"}, args...)
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ctr %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// socket is the node's containerd.
func (n *Node) socket() string { return n.path("containerd.sock") }

// containerdConfig: restrict_oom_score_adj lets runc work without CAP_SYS_RESOURCE; network namespaces below the state folder are
// unmounted with all else when the lab goes down.
func (n *Node) containerdConfig() string {
	return fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing"]
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = %q
`, n.path("containerd"), n.path("state"), n.socket(), PauseImage, cniPlugins, n.path("cni"), n.path("certs.d"))
}

// writeNetwork makes the node's bridge and says to containerd that pods go there. There is no masquerading: pods reach
// each other and the nodes, and nothing is left in the host's tables.
func (n *Node) writeNetwork() error {
	if _, err := os.Stat(filepath.Join(cniPlugins, "bridge")); err != nil {
		return fmt.Errorf("%s/bridge is missing: run `make deps` (Debian package containernetworking-plugins)", cniPlugins)
	}
	if err := enableForwarding(); err != nil {
		return fmt.Errorf("turn on forwarding: %w", err)
	}
	if err := addBridge(n.lab.Dir, n.bridge, n.subnet.gateway()+"/24"); err != nil {
		return err
	}
	type object = map[string]any
	config, err := json.MarshalIndent(object{
		"cniVersion": "0.4.0", "name": "lab",
		"plugins": []object{
			{"type": "bridge", "bridge": n.bridge, "isGateway": true, "hairpinMode": true,
				"ipam": object{"type": "host-local", "dataDir": n.path("ipam"),
					"ranges": [][]object{{{"subnet": n.subnet.cidr(), "gateway": n.subnet.gateway()}}},
					"routes": []object{{"dst": "0.0.0.0/0"}}}},
			{"type": "loopback"},
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(n.path("cni", "10-lab.conflist"), config)
}
