//go:build bench

package autonomy

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// Environment that shortens what takes long: how often each reboot is measured, and for how long an idle node is watched.
const (
	roundsEnv = "HOLDFAST_BENCH_ROUNDS"
	idleEnv   = "HOLDFAST_BENCH_IDLE"
)

// machine is a node with a kubelet behind the proxy and no kube-proxy. Its proxy has an address of its own.
type machine struct {
	*site
	flags []string // of the agent
}

// newMachine brings a cluster and such a node up.
func newMachine(tb testing.TB) *machine {
	tb.Helper()
	m := &machine{site: &site{TB: tb, lab: labtest.Start(tb, lab.Options{Controllers: true, Services: true})}}
	var err error
	m.link, err = m.lab.NewLink()
	m.must(err)
	m.node, err = m.lab.AddNode(tb.Context(), lab.NodeOptions{Name: "shop-1", Kubelet: true})
	m.must(err)
	m.startFleet(m.node.Name)
	m.installHoldfast()
	address := m.free()
	m.flags = []string{"--address", "off", "--pod-address", "off", "--proxy-address", address}
	m.enrolWith("--proxy-address", address, "--kubelet-config", m.node.KubeletConfig(), "--kubelet-cert-dir", m.node.KubeletCertDir())
	m.start()
	m.must(m.node.StopKubelet())
	m.node.Kubeconfig = m.kubeconfig
	m.must(m.node.StartKubelet(tb.Context()))
	return m
}

// start starts the agent and waits until it serves.
func (s *machine) start() {
	s.Helper()
	s.runAgent(s.flags...)
	s.within(time.Minute, func() error { _, err := s.local("get", "node", s.node.Name); return err })
}

// BenchmarkReboot compares how long a node takes from the start of its programs until all containers run: the kubelet alone with a live API
// server, and agent and kubelet with none, which is known at once if connections are refused, and only after the race if they are black-holed.
func BenchmarkReboot(b *testing.B) {
	rounds := 3
	if text := os.Getenv(roundsEnv); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	s := newMachine(b)
	direct, err := s.lab.NodeKubeconfig(s.node.Name)
	s.must(err)
	s.deploy("many.yaml", 0)
	for _, pods := range []int{2, 12, 40} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			one := *s.site
			one.TB = b
			in := &machine{site: &one, flags: s.flags}
			in.kubectl("scale", "-n", "shop", "deployment/many", "--replicas="+strconv.Itoa(pods))
			in.ready(pods)
			var alone, refused, blackHoled times
			for range rounds {
				alone = append(alone, in.rebootAlone(direct))
				refused = append(refused, in.rebootOffline(in.link.Refuse))
				blackHoled = append(blackHoled, in.rebootOffline(in.link.Cut))
			}
			b.ReportMetric(alone.at(50).Seconds(), "alone-s")
			b.ReportMetric(refused.at(50).Seconds(), "refused-s")
			b.ReportMetric(blackHoled.at(50).Seconds(), "black-holed-s")
			b.ReportMetric(float64(rounds), "rounds")
			report(b, 0, "ns/op")
		})
	}
}

// rebootAlone reboots the node as it was before it had a proxy, and puts it behind the proxy again.
func (s *machine) rebootAlone(kubeconfig string) time.Duration {
	s.Helper()
	behind := s.node.Kubeconfig
	s.node.Kubeconfig = kubeconfig
	took := s.reboot(func() {})
	s.must(s.node.StopKubelet())
	s.node.Kubeconfig = behind
	s.start()
	s.must(s.node.StartKubelet(s.Context()))
	s.ready(len(s.pods()))
	return took
}

// rebootOffline reboots the node while the API server is not to be reached.
func (s *machine) rebootOffline(cut func() error) time.Duration {
	s.Helper()
	s.autonomous()
	s.must(cut())
	took := s.reboot(func() { s.runAgent(s.flags...) })
	s.must(s.link.Restore())
	s.ready(len(s.pods()))
	return took
}

// reboot cuts the power and measures from the start of the programs until all containers run.
func (s *machine) reboot(agent func()) time.Duration {
	s.Helper()
	pods := s.pods()
	want := containersOf(pods)
	s.must(s.lab.Stop("agent"))
	s.must(s.node.Crash())
	s.must(s.node.Boot(s.Context()))
	began := time.Now()
	agent()
	_, err := s.node.LaunchKubelet()
	s.must(err)
	s.runs(3*time.Minute, want)
	return time.Since(began)
}

// BenchmarkIdleNode counts how often the agent waits for the disk on a node with twelve pods where nothing happens but what always does:
// leases, heartbeats, bookmarks. It runs once, whatever b.N.
func BenchmarkIdleNode(b *testing.B) {
	length := span(b, idleEnv, 10*time.Minute)
	s := newMachine(b)
	s.deploy("many.yaml", 0)
	s.kubectl("scale", "-n", "shop", "deployment/many", "--replicas=12")
	s.ready(12)
	s.autonomous()
	idle(b, min(length, time.Minute)) // what the start changed is written
	syncs := s.watchSyncs(length)
	status, err := figures(s.agentPID(), "status")
	s.must(err)
	b.ReportMetric(status["VmRSS"]/1024, "resident-MB")
	b.ReportMetric(status["RssAnon"]/1024, "anon-MB")
	b.ReportMetric(length.Minutes(), "minutes")
	report(b, float64(syncs), "fsyncs")
}

// syncCall matches a call by which a program waits for the disk, in strace's output.
var syncCall = regexp.MustCompile(`(?m)\b(fsync|fdatasync|sync|syncfs|sync_file_range|msync)\(`)

// watchSyncs counts the agent's calls that wait for the disk, for that long.
func (s *machine) watchSyncs(length time.Duration) int {
	s.Helper()
	log := filepath.Join(s.TempDir(), "strace")
	ctx, cancel := context.WithTimeout(s.Context(), length)
	defer cancel()
	cmd := exec.CommandContext(ctx, "strace", "-f", "-o", log, "-e", "trace=fsync,fdatasync,sync,syncfs,sync_file_range,msync",
		"-p", strconv.Itoa(s.agentPID()))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) } // it lets go of the process
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	if ctx.Err() == nil {
		s.Fatalf("strace ended early: %v: %s", err, &stderr)
	}
	data, err := os.ReadFile(log)
	s.must(err)
	return len(syncCall.FindAll(data, -1))
}

// agentPID is the process of the agent; it fails if that ended.
func (s *machine) agentPID() int {
	s.Helper()
	raw, err := os.ReadFile(filepath.Join(s.lab.Dir, "pids", "agent"))
	s.must(err)
	var pid int
	_, err = fmt.Sscan(string(raw), &pid)
	s.must(err)
	_, err = figures(pid, "status")
	s.must(err)
	return pid
}
