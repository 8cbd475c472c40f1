//go:build e2e

package lab_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/test/lab"
)

// crashEnv makes this test binary start a lab and wait to be killed.
const crashEnv = "HOLDFAST_LAB_CRASH_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(crashEnv) != "" {
		waitToBeKilled()
	}
	os.Exit(m.Run())
}

// waitToBeKilled starts a lab with a kubelet, prints its folder and stays.
func waitToBeKilled() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	l, err := lab.Start(ctx, lab.Options{Controllers: true, Log: os.Stderr})
	if err == nil {
		_, err = l.AddNode(ctx, lab.NodeOptions{Name: "crash-1", Kubelet: true})
	}
	if err == nil {
		err = runPod(ctx, l, "web", "crash-1")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Dir)
	select {}
}

// runPod runs a pod on a node and waits until it is ready.
func runPod(ctx context.Context, l *lab.Lab, name, node string) error {
	pod := json.RawMessage(fmt.Sprintf(podManifest, name, node, lab.WebImage))
	if err := l.Request(ctx, http.MethodPost, "/api/v1/namespaces/default/pods", pod, nil); err != nil {
		return err
	}
	_, err := l.Kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=90s", "pod/"+name)
	return err
}

func TestKilledOwnerLeavesNothing(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"=1")
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(out)
	if !scanner.Scan() {
		t.Fatalf("the lab did not start: %v", cmd.Wait())
	}
	dir := scanner.Text()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the owner ended by itself")
	}
	if err := lab.Sweep(t.Output()); err != nil {
		t.Fatal(err)
	}
	checkNothingLeft(t, dir)
}

func TestKeptLabOutlivesItsOwner(t *testing.T) {
	const name = "kept-test"
	if err := lab.Down(name); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", "./cmd/lab", "up", "-name", name, "-registered", "a")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if err := lab.Down(name); err != nil {
			t.Error(err)
		}
	})
	if err := lab.Sweep(t.Output()); err != nil {
		t.Fatal(err)
	}
	run, err := lab.RunDir()
	if err != nil {
		t.Fatal(err)
	}
	kubectl, err := lab.Program("kubectl")
	if err != nil {
		t.Fatal(err)
	}
	dir := run + "/" + name
	get := exec.CommandContext(t.Context(), kubectl, "--kubeconfig", dir+"/kubeconfigs/admin.kubeconfig", "get", "node", "a", "-o", "name")
	if out, err := get.CombinedOutput(); err != nil || string(out) != "node/a\n" {
		t.Errorf("the kept lab does not answer: %v: %s", err, out)
	}
	if err := lab.Down(name); err != nil {
		t.Fatal(err)
	}
	checkNothingLeft(t, dir)
}
