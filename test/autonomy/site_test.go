//go:build e2e || bench

package autonomy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-dev/holdfast/reconciler/hub/install"
	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
	"github.com/holdfast-dev/holdfast/test/fleetrepo"
	"github.com/holdfast-dev/holdfast/test/gitserver"
	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

func TestMain(m *testing.M) {
	sandbox.Main(revision.Children())
	os.Exit(m.Run())
}

// The programs are built once for all tests: the agent, and the agent with a wrong clock.
var (
	agentProgram   = sync.OnceValues(func() (string, error) { return build("cmd/holdfast-agent") })
	shiftedProgram = sync.OnceValues(func() (string, error) { return build("test/autonomy/shifted") })
)

func build(folder string) (string, error) {
	dir, err := os.MkdirTemp("", "holdfast")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, filepath.Base(folder))
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "github.com/holdfast-dev/holdfast/"+folder)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", folder, err, out)
	}
	return path, nil
}

// site is one node behind its agent's proxy, whose way to the API server can be cut.
type site struct {
	testing.TB
	lab   *lab.Lab
	link  *lab.Link
	node  *lab.Node
	fleet *fleetrepo.Fleet
	// state is the agent's state folder; kubeconfig is the kubelet's behind the proxy, proxyToken kube-proxy's.
	state, kubeconfig, kubeProxy string
	// clock is by how much the agent's clock is wrong.
	clock time.Duration
}

// newSite brings a cluster up with one node that is behind the proxy and runs.
func newSite(tb testing.TB, opts lab.Options) *site {
	tb.Helper()
	opts.Controllers, opts.Services = true, true
	s := &site{TB: tb, lab: labtest.Start(tb, opts)}
	s.addNode("shop-1")
	return s
}

// must ends the test if err is not nil.
func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// kubectl runs kubectl as administrator, straight at the API server.
func (s *site) kubectl(args ...string) string {
	s.Helper()
	out, err := s.lab.Kubectl(s.Context(), args...)
	if err != nil {
		s.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// local runs kubectl on the node, with the kubelet's kubeconfig, through the proxy.
func (s *site) local(args ...string) (string, error) {
	path, err := lab.Program("kubectl")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Second)
	defer cancel()
	var out, msg bytes.Buffer
	cmd := exec.CommandContext(ctx, path, append([]string{"--kubeconfig=" + s.kubeconfig, "--cache-dir=" + filepath.Join(s.lab.Dir, "kubectl-cache")}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, msg.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// holdfastAgent runs a command of the agent and gives what it prints.
func (s *site) holdfastAgent(args ...string) (string, error) {
	path, err := agentProgram()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append(args, "--state", s.state)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("holdfast-agent %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// deploy applies a file of testdata and waits until want pods run and are Ready.
func (s *site) deploy(file string, want int) {
	s.Helper()
	s.kubectl("apply", "-f", filepath.Join("testdata", file))
	s.ready(want)
}

// ready waits until so many pods are there and all are Ready, as the API server sees it.
func (s *site) ready(want int) {
	s.Helper()
	s.within(2*time.Minute, func() error {
		pods := s.pods()
		for name, p := range pods {
			if !p.ready() {
				return fmt.Errorf("pod %s is not Ready: %s", name, p.Status.Phase)
			}
		}
		if len(pods) != want {
			return fmt.Errorf("%d pods, want %d", len(pods), want)
		}
		return nil
	})
}

// pod is what the tests read of pods.
type pod struct {
	Metadata struct {
		Namespace, Name, UID, DeletionTimestamp string
	}
	Spec struct {
		NodeName   string
		Containers []struct{ Name string }
	}
	Status struct {
		Phase, PodIP string
		Conditions   []struct{ Type, Status string }
	}
}

func (p pod) ready() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// pods gives the pods of the namespace shop by name, as the API server has them.
func (s *site) pods() map[string]pod {
	s.Helper()
	var list struct{ Items []pod }
	s.must(s.lab.Request(s.Context(), http.MethodGet, "/api/v1/namespaces/shop/pods", nil, &list))
	pods := map[string]pod{}
	for _, p := range list.Items {
		pods[p.Metadata.Name] = p
	}
	return pods
}

// uids gives the UIDs of pods by name.
func uids(pods map[string]pod) map[string]string {
	out := map[string]string{}
	for name, p := range pods {
		out[name] = p.Metadata.UID
	}
	return out
}

// containers names what ought to run, or runs, as POD/CONTAINER with the pod's UID.
func containersOf(pods map[string]pod) map[string]string {
	out := map[string]string{}
	for name, p := range pods {
		for _, c := range p.Spec.Containers {
			out[name+"/"+c.Name] = p.Metadata.UID
		}
	}
	return out
}

// running gives the containers of the namespace shop that run on the node, asking nobody but the kernel.
func (s *site) running() map[string]string {
	s.Helper()
	containers, err := s.node.Containers()
	s.must(err)
	out := map[string]string{}
	for _, c := range containers {
		if c.Namespace == "shop" {
			out[c.Pod+"/"+c.Name] = c.UID
		}
	}
	return out
}

// runs waits until exactly these containers run.
func (s *site) runs(limit time.Duration, want map[string]string) {
	s.Helper()
	s.within(limit, func() error {
		got := s.running()
		if maps.Equal(got, want) {
			return nil
		}
		var missing, foreign []string
		for name, uid := range want {
			if got[name] != uid {
				missing = append(missing, name)
			}
		}
		for name, uid := range got {
			if want[name] != uid {
				foreign = append(foreign, name)
			}
		}
		slices.Sort(missing)
		slices.Sort(foreign)
		return fmt.Errorf("%d of %d containers run; missing %v, not wanted %v", len(got), len(want), missing, foreign)
	})
}

// crash cuts the power: agent, kubelet, containers and kube-proxy are gone at once.
func (s *site) crash() {
	s.Helper()
	s.must(s.lab.Stop("agent"))
	s.must(s.node.StopKubeProxy())
	s.must(s.node.Crash())
}

// boot starts what a machine starts: containerd, the agent, the kubelet, kube-proxy.
func (s *site) boot() {
	s.Helper()
	s.must(s.node.Boot(s.Context()))
	s.runAgent()
	_, err := s.node.LaunchKubelet()
	s.must(err)
	_, err = s.node.StartKubeProxy(s.kubeProxy)
	s.must(err)
}

// runAgent starts the agent's process.
func (s *site) runAgent(flags ...string) {
	s.Helper()
	path, err := agentProgram()
	args := append([]string{"run", "--state", s.state, "--config", os.DevNull, "--log-level", "debug"}, flags...)
	if s.clock != 0 {
		path, err = shiftedProgram()
		args = []string{s.state, s.clock.String()}
	}
	s.must(err)
	_, err = s.lab.Run(lab.Command{Name: "agent", Path: path, Args: args})
	s.must(err)
}

// within asks until it works or time is up.
func (s *site) within(limit time.Duration, f func() error) {
	s.Helper()
	deadline, tick := time.After(limit), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for err := f(); err != nil; err = f() {
		select {
		case <-deadline:
			s.dump()
			s.Fatal(err)
		case <-tick.C:
		}
	}
}

// dump shows the last of every log.
func (s *site) dump() {
	s.Helper()
	for _, name := range []string{"agent", "kubelet-1", "kube-proxy-1"} {
		raw, err := os.ReadFile(filepath.Join(s.lab.Dir, "logs", name+".log"))
		if err != nil {
			continue
		}
		lines := slices.DeleteFunc(bytes.Split(bytes.TrimSpace(raw), []byte("\n")), func(line []byte) bool {
			return bytes.Contains(line, []byte("filesystem info")) // every kubelet of the lab says so again and again
		})
		s.Logf("the end of %s.log:\n%s", name, bytes.Join(lines[max(0, len(lines)-40):], []byte("\n")))
		if dir := os.Getenv("HOLDFAST_TEST_LOGS"); dir != "" {
			s.must(os.WriteFile(filepath.Join(dir, filepath.Base(s.lab.Dir)+"-"+name+".log"), raw, 0o600))
		}
	}
}

// get asks a URL on the node's network and decodes JSON, or gives the text.
func (s *site) get(url string, into any) error {
	ctx, cancel := context.WithTimeout(s.Context(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// A connection of its own, for which kube-proxy picks a pod.
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if text, ok := into.(*string); ok {
		*text = strings.TrimSpace(string(raw))
		return nil
	}
	return json.Unmarshal(raw, into)
}

// serviceAnswers waits until the Service answers from all of these pods.
func (s *site) serviceAnswers(name string, pods ...string) {
	s.Helper()
	address := s.address(name)
	s.within(30*time.Second, func() error {
		seen := map[string]bool{}
		for range 50 {
			var got string
			if err := s.get("http://"+address+"/", &got); err != nil {
				return err
			}
			seen[got] = true
			if !slices.ContainsFunc(pods, func(p string) bool { return !seen[p] }) {
				return nil
			}
		}
		return fmt.Errorf("service %s answers from %v, want %v", name, slices.Sorted(maps.Keys(seen)), pods)
	})
}

// address gives a Service's cluster IP; it is asked straight at the API server, which the lab's administrator reaches always.
func (s *site) address(service string) string {
	s.Helper()
	return s.kubectl("get", "service", "-n", "shop", service, "-o", "jsonpath={.spec.clusterIP}")
}

// named gives the names of pods that begin so.
func named(pods map[string]pod, prefix string) []string {
	var out []string
	for name := range pods {
		if strings.HasPrefix(name, prefix) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// startFleet serves a fleet repo with one pool of one node.
func (s *site) startFleet(node string) {
	s.Helper()
	s.fleet = fleetrepo.Start(s.TB, gitserver.Config{}, fleetrepo.One("berlin", node, "rack", "7"))
}

// podAddress gives a pod's address as its network namespace has it, whatever the API says.
func (s *site) podAddress(pod string) string {
	s.Helper()
	containers, err := s.node.Containers()
	s.must(err)
	for _, c := range containers {
		if c.Namespace == "shop" && c.Pod == pod {
			address, err := c.Address()
			s.must(err)
			return address
		}
	}
	return "" // it does not run
}

// installAll does what `holdfast install` does.
func installAll(ctx context.Context, l *lab.Lab) error {
	objects, err := install.Objects()
	if err != nil {
		return err
	}
	rest, err := clientcmd.BuildConfigFromFlags("", l.AdminKubeconfig())
	if err != nil {
		return err
	}
	rest.QPS = -1
	cluster, err := dynamic.NewForConfig(rest)
	if err != nil {
		return err
	}
	return install.Apply(ctx, cluster, objects, func(install.Step) {})
}
