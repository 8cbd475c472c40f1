//go:build bench

package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent"
	"github.com/holdfast-dev/holdfast/edgeagent/kube"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/test/fleetrepo"
	"github.com/holdfast-dev/holdfast/test/gitserver"
	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// tempDir gives a folder with a path short enough for a socket.
func tempDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// BenchmarkPushToLabels measures, with a real API server, how long a signed push takes to change the Node's labels: all of it,
// and from the moment it is fetched.
func BenchmarkPushToLabels(b *testing.B) {
	l := labtest.Shared(b)
	const node = "bench-n1"
	f := fleetrepo.Start(b, gitserver.Config{}, fleetrepo.One("berlin", node, "rack", "start"))
	if _, err := l.AddNode(b.Context(), lab.NodeOptions{Name: node}); err != nil {
		b.Fatal(err)
	}
	kubeconfig, err := l.NodeKubeconfig(node)
	if err != nil {
		b.Fatal(err)
	}
	state := tempDir(b)
	if _, err := edgeagent.Enroll(b.Context(), edgeagent.EnrollOptions{State: state, Node: node, Pool: "berlin", URL: f.URL, CA: f.CA, Branch: "main", Anchor: f.Anchor(), Kubeconfig: kubeconfig}); err != nil {
		b.Fatal(err)
	}
	var fetched time.Time
	a, err := edgeagent.Open(edgeagent.Options{Config: edgeagent.Config{State: state, Address: edgeagent.NoAddress}, Step: func(at string) {
		if at == "fetched" {
			fetched = time.Now()
		}
	}})
	if err != nil {
		b.Fatal(err)
	}
	defer runAgent(b, a)()
	agent := edgeagent.Control{State: state}
	if _, err := agent.Sync(b.Context()); err != nil {
		b.Fatal(err)
	}
	var fromFetched time.Duration
	i := 0
	for b.Loop() {
		b.StopTimer()
		i++
		f.Set(fleetrepo.One("berlin", node, "rack", strconv.Itoa(i)))
		b.StartTimer()
		st, err := agent.Sync(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		fromFetched = max(fromFetched, time.Since(fetched))
		if c, _ := condition.Get(st.Conditions, condition.Ready); c.Status != condition.True {
			b.Fatalf("%+v", st.Conditions)
		}
	}
	b.ReportMetric(float64(fromFetched.Milliseconds()), "fetched-to-labels-ms")
}

// runAgent runs an agent until the returned function is called.
func runAgent(tb testing.TB, a *edgeagent.Agent) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
		if err := a.Close(); err != nil {
			tb.Error(err)
		}
	}
}

// agentProgram builds the agent as it is released.
func agentProgram(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tempDir(tb), "holdfast-agent")
	out, err := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "github.com/holdfast-dev/holdfast/cmd/holdfast-agent").CombinedOutput()
	if err != nil {
		tb.Fatalf("build the agent: %v\n%s", err, out)
	}
	return path
}

// idle is how long an idle agent is watched: ten minutes, or what HOLDFAST_BENCH_IDLE says.
func idle(tb testing.TB) time.Duration {
	text := os.Getenv("HOLDFAST_BENCH_IDLE")
	if text == "" {
		return 10 * time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

var flush = regexp.MustCompile(`\b(fsync|fdatasync|sync|syncfs|sync_file_range|msync)\(`)

// BenchmarkIdleAgent watches the released program, polling and watching its Node, while nothing changes.
func BenchmarkIdleAgent(b *testing.B) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		b.Fatalf("fsyncs are counted with strace: %v", err)
	}
	l := labtest.Shared(b)
	const node = "idle-n1"
	f := fleetrepo.Start(b, gitserver.Config{}, fleetrepo.One("berlin", node, "rack", "7"))
	if _, err := l.AddNode(b.Context(), lab.NodeOptions{Name: node}); err != nil {
		b.Fatal(err)
	}
	kubeconfig, err := l.NodeKubeconfig(node)
	if err != nil {
		b.Fatal(err)
	}
	state := tempDir(b)
	if _, err := edgeagent.Enroll(b.Context(), edgeagent.EnrollOptions{State: state, Node: node, Pool: "berlin", URL: f.URL, CA: f.CA, Branch: "main", Anchor: f.Anchor(), Kubeconfig: kubeconfig}); err != nil {
		b.Fatal(err)
	}
	program := agentProgram(b)
	for b.Loop() {
		agent := exec.Command(program, "run", "--state", state, "--address", "127.0.0.1:0", "--log-level", "error")
		agent.Stderr = os.Stderr
		if err := agent.Start(); err != nil {
			b.Fatal(err)
		}
		settle(b, state)
		trace := filepath.Join(tempDir(b), "trace")
		tracer := exec.Command(strace, "-f", "-qq", "-e", "trace=fsync,fdatasync,sync,syncfs,sync_file_range,msync", "-o", trace, "-p", strconv.Itoa(agent.Process.Pid))
		if err := tracer.Start(); err != nil {
			b.Fatal(err)
		}
		f.Git.Reset()
		time.Sleep(idle(b)) // what is measured is that nothing happens for so long
		rss, anon := memory(b, agent.Process.Pid)
		polls := len(f.Git.Requests())
		if err := tracer.Process.Signal(syscall.SIGINT); err != nil {
			b.Fatal(err)
		}
		tracer.Wait() // ends by the signal
		if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
			b.Fatal(err)
		}
		if err := agent.Wait(); err != nil {
			b.Fatal(err)
		}
		raw, err := os.ReadFile(trace)
		if err != nil {
			b.Fatal(err)
		}
		if polls == 0 {
			b.Fatal("the agent did not poll while it was watched")
		}
		b.ReportMetric(rss, "rss-MB")
		b.ReportMetric(anon, "anon-MB")
		b.ReportMetric(float64(len(flush.FindAll(raw, -1))), "fsyncs")
		b.ReportMetric(float64(polls), "polls")
		b.ReportMetric(idle(b).Minutes(), "minutes")
	}
}

// settle waits until a started agent has nothing left to do.
func settle(tb testing.TB, state string) {
	tb.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		st, err := edgeagent.Control{State: state}.Sync(tb.Context())
		if err == nil {
			if c, _ := condition.Get(st.Conditions, condition.Ready); c.Status == condition.True {
				break
			}
		}
		if time.Now().After(deadline) {
			tb.Fatalf("the agent did not settle: %+v, %v", st, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(40 * time.Second) // its last report is written by then
}

// memory gives a process's resident and anonymous memory in MB.
func memory(tb testing.TB, pid int) (rss, anon float64) {
	tb.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			continue
		}
		kb, err := strconv.ParseFloat(fields[1], 64)
		switch {
		case err != nil:
		case fields[0] == "Rss:":
			rss = kb / 1024
		case fields[0] == "Anonymous:":
			anon = kb / 1024
		}
	}
	return rss, anon
}

// BenchmarkManyAgents runs many agents in one process against one Git server and one API server, and measures what each costs
// while nothing changes. No figure may grow with their number.
func BenchmarkManyAgents(b *testing.B) {
	l, f, enrolled := manySite(b)
	for _, n := range []int{50, 500} {
		b.Run(fmt.Sprintf("agents=%d", n), func(b *testing.B) {
			for b.Loop() {
				manyAgents(b, l, f, enrolled, n)
			}
		})
	}
}

// counted passes everything on to a real API server, and counts.
type counted struct {
	*kube.Client
	requests *atomic.Int64
}

func (c counted) Get(ctx context.Context, path string, into any) error {
	c.requests.Add(1)
	return c.Client.Get(ctx, path, into)
}

func (c counted) Apply(ctx context.Context, path, manager string, check bool, object any) error {
	c.requests.Add(1)
	return c.Client.Apply(ctx, path, manager, check, object)
}

func (c counted) Watch(ctx context.Context, path, name string, each func(json.RawMessage)) error {
	c.requests.Add(1)
	return c.Client.Watch(ctx, path, name, each)
}

const manyWindow = 2 * time.Minute

// manyNodes is how many Nodes there are: further agents act for the same ones, which costs an API server the same.
const manyNodes = 20

func manyAgents(b *testing.B, l *lab.Lab, f *fleetrepo.Fleet, enrolled []string, n int) {
	root := tempDir(b)
	var states []string
	for i := range n {
		state := filepath.Join(root, strconv.Itoa(i))
		if err := os.CopyFS(state, os.DirFS(enrolled[i%manyNodes])); err != nil {
			b.Fatal(err)
		}
		states = append(states, state)
	}
	before := heap()
	var requests atomic.Int64
	for _, state := range states {
		cfg, err := kube.Load(filepath.Join(state, "credentials", "kubeconfig"))
		if err != nil {
			b.Fatal(err)
		}
		a, err := edgeagent.Open(edgeagent.Options{Config: edgeagent.Config{State: state, Address: edgeagent.NoAddress},
			API: counted{kube.New(cfg, "holdfast-agent/bench"), &requests}})
		if err != nil {
			b.Fatal(err)
		}
		defer runAgent(b, a)()
	}
	for _, state := range states { // each has verified its first poll, and applied its plan
		if _, err := (edgeagent.Control{State: state}).Sync(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	time.Sleep(time.Minute) // their reports are sent and kept by then
	f.Git.Reset()
	requests.Store(0)
	time.Sleep(manyWindow) // what is measured is what agents cost while nothing changes
	perMinute := float64(n) * manyWindow.Minutes()
	b.ReportMetric(float64(len(f.Git.Requests()))/perMinute, "git-requests/agent-minute")
	b.ReportMetric(float64(requests.Load())/perMinute, "api-requests/agent-minute")
	b.ReportMetric((heap()-before)/float64(n)/1024, "heap-kB/agent")
	b.ReportMetric(float64(runtime.NumGoroutine())/float64(n), "goroutines/agent")
}

// manySite makes a fleet of manyNodes in a real cluster and enrols them all.
func manySite(b *testing.B) (l *lab.Lab, f *fleetrepo.Fleet, enrolled []string) {
	l = labtest.Shared(b)
	installAll(b, l)
	pool := fleetrepo.Pool{Name: "berlin", Nodes: map[string]map[string]string{}}
	name := func(i int) string { return fmt.Sprintf("many-n%d", i) }
	for i := range manyNodes {
		pool.Nodes[name(i)] = map[string]string{"rack": "7"}
	}
	f = fleetrepo.Start(b, gitserver.Config{Plain: true}, pool)
	root := tempDir(b)
	for i := range manyNodes {
		if _, err := l.AddNode(b.Context(), lab.NodeOptions{Name: name(i)}); err != nil {
			b.Fatal(err)
		}
		addEdgeNode(b, l, name(i))
		kubeconfig, err := l.NodeKubeconfig(name(i))
		if err != nil {
			b.Fatal(err)
		}
		state := filepath.Join(root, strconv.Itoa(i))
		if _, err := edgeagent.Enroll(b.Context(), edgeagent.EnrollOptions{State: state, Node: name(i), Pool: "berlin", URL: f.URL, Branch: "main", Anchor: f.Anchor(), Kubeconfig: kubeconfig}); err != nil {
			b.Fatal(err)
		}
		enrolled = append(enrolled, state)
	}
	return l, f, enrolled
}

// heap gives what the process holds, in bytes, with its stacks.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}
