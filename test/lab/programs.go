package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Versions of Kubernetes, which the modules test/lab/kube and test/lab/kube136 pin; a test compares them.
const (
	KubernetesVersion = "v1.37.2"
	// OlderVersion is the version of an older kubelet, which a node may run instead.
	OlderVersion = "v1.36.3"
)

// release is what is built of one version of Kubernetes.
type release struct {
	version string
	// module is the folder below test/lab whose go.mod pins the version.
	module string
	// programs are in the order in which building them shares most work.
	programs []string
}

func releases() []release {
	return []release{
		{KubernetesVersion, "kube", []string{"kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"}},
		{OlderVersion, "kube136", []string{"kubelet"}},
	}
}

// debianPackage names the package that holds a program the lab takes from the host.
var debianPackage = map[string]string{
	"etcd":       "etcd-server",
	"containerd": "containerd",
	"ctr":        "containerd",
	"runc":       "runc",
	"ip":         "iproute2",
	"nft":        "nftables",
	"nsenter":    "util-linux",
}

// home is the folder of everything the lab keeps between runs: $XDG_CACHE_HOME/holdfast-lab, or ~/.cache/holdfast-lab.
func home() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(cache, "holdfast-lab"), nil
}

// ProgramDir is the folder of the built programs of one version of Kubernetes.
func ProgramDir(version string) (string, error) {
	dir, err := home()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, version), nil
}

// Program gives the path of one built Kubernetes program, or an error that says how to build it.
func Program(name string) (string, error) { return programOf(KubernetesVersion, name) }

func programOf(version, name string) (string, error) {
	dir, err := ProgramDir(version)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s %s is not built: run `make lab` (about 15 minutes the first time)", name, version)
	}
	return path, nil
}

// hostProgram finds a program of the host, or says which package holds it.
func hostProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: run `make deps` (Debian package %s)", name, debianPackage[name])
}
