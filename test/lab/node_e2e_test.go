//go:build e2e

package lab_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// podManifest is a pod that serves HTTP on one node.
const podManifest = `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": %[1]q, "labels": {"app": "web"}}, "spec": {
	"nodeSelector": {"kubernetes.io/hostname": %[2]q},
	"containers": [{"name": "web", "image": %[3]q, "imagePullPolicy": "Never"}]}}`

func TestTwoKubeletsRunPods(t *testing.T) {
	l := labtest.Start(t, lab.Options{Controllers: true})
	for _, name := range []string{"shop-1", "shop-2"} {
		if _, err := l.AddNode(t.Context(), lab.NodeOptions{Name: name, Kubelet: true, Labels: map[string]string{"site": "shop"}}); err != nil {
			t.Fatal(err)
		}
		if err := runPod(t.Context(), l, "web-"+name, name); err != nil {
			out, _ := l.Kubectl(t.Context(), "describe", "pods")
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, name := range []string{"web-shop-1", "web-shop-2"} {
		if got := answer(t, l, name); got != name {
			t.Errorf("pod %s answers %q, want its own name", name, got)
		}
		if out, err := l.Kubectl(t.Context(), "logs", name); err != nil {
			t.Errorf("the API server does not reach the kubelet: %v: %s", err, out)
		}
	}
	dir := l.Dir
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	checkNothingLeft(t, dir)
}

// answer asks a pod by HTTP at its own address.
func answer(t *testing.T, l *lab.Lab, pod string) string {
	t.Helper()
	address, err := l.Kubectl(t.Context(), "get", "pod", pod, "-o", "jsonpath={.status.podIP}")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+":8080/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(body))
}

// checkNothingLeft looks for processes, mounts, cgroups and files of a lab.
func checkNothingLeft(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder %s is left", dir)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range commands {
		if data, err := os.ReadFile(file); err == nil && strings.Contains(string(data), dir+"/") {
			t.Errorf("a process is left: %s", strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), dir+"/") {
		t.Error("mounts are left below the lab's folder")
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/holdfast-lab-" + filepath.Base(dir))
	if err != nil {
		t.Fatal(err)
	}
	if len(groups) > 0 {
		t.Errorf("cgroups are left: %v", groups)
	}
}
