package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Container is a container of a pod that runs on a node.
type Container struct {
	Namespace, Pod, UID, Name string
	PID                       int
}

// Containers gives the containers that run on a node with a kubelet, as the kernel sees them: no kubelet and no API server is asked,
// so it works on a node that is cut off. Pods' sandboxes are not among them.
func (n *Node) Containers() ([]Container, error) {
	bundles, err := filepath.Glob(n.path("state", "io.containerd.runtime.v2.task", "k8s.io", "*"))
	if err != nil {
		return nil, err
	}
	var out []Container
	for _, bundle := range bundles {
		c, running, err := readBundle(bundle)
		if err != nil {
			return nil, fmt.Errorf("read container %s: %w", filepath.Base(bundle), err)
		}
		if running {
			out = append(out, c)
		}
	}
	return out, nil
}

// Address is the IPv4 address of the container's pod.
func (c Container) Address() (string, error) {
	path, err := hostProgram("nsenter")
	if err != nil {
		return "", err
	}
	out, err := exec.Command(path, "--target", strconv.Itoa(c.PID), "--net", "ip", "-json", "-4", "address", "show", "dev", "eth0").Output()
	if err != nil {
		return "", fmt.Errorf("address of pod %s: %w", c.Pod, err)
	}
	var links []struct {
		Info []struct{ Local string } `json:"addr_info"`
	}
	if err := json.Unmarshal(out, &links); err != nil {
		return "", fmt.Errorf("address of pod %s: %w", c.Pod, err)
	}
	for _, l := range links {
		for _, info := range l.Info {
			return info.Local, nil
		}
	}
	return "", fmt.Errorf("pod %s has no IPv4 address", c.Pod)
}

// readBundle reads an OCI bundle as containerd's CRI plugin writes it. running is false for sandboxes, for what has ended, and for what
// runc has made but not started.
func readBundle(dir string) (c Container, running bool, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if errors.Is(err, os.ErrNotExist) {
		return c, false, nil // just made, or just removed
	}
	if err != nil {
		return c, false, err
	}
	var config struct{ Annotations map[string]string }
	if err := json.Unmarshal(raw, &config); err != nil {
		return c, false, nil // half written
	}
	const cri = "io.kubernetes.cri."
	a := config.Annotations
	c = Container{Namespace: a[cri+"sandbox-namespace"], Pod: a[cri+"sandbox-name"], UID: a[cri+"sandbox-uid"], Name: a[cri+"container-name"]}
	if a[cri+"container-type"] != "container" {
		return c, false, nil
	}
	pid, err := os.ReadFile(filepath.Join(dir, "init.pid"))
	if err != nil {
		return c, false, nil
	}
	if _, err := fmt.Sscan(string(pid), &c.PID); err != nil {
		return c, false, nil
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.PID))
	return c, err == nil && !strings.HasPrefix(string(comm), "runc:"), nil
}
