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
)

// Environment that shortens what takes long: how often each reboot is measured, and for how long an idle node is watched.
const (
	roundsEnv = "HOLDFAST_BENCH_ROUNDS"
	idleEnv   = "HOLDFAST_BENCH_IDLE"
)

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
	s := newSite(b, lab.Options{})
	direct, err := s.lab.NodeKubeconfig(s.node.Name)
	s.must(err)
	s.deploy("many.yaml", 0)
	for _, pods := range []int{2, 12, 40} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			in := *s
			in.TB = b
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
func (s *site) rebootAlone(kubeconfig string) time.Duration {
	s.Helper()
	behind := s.node.Kubeconfig
	s.node.Kubeconfig = kubeconfig
	took := s.reboot(func() {})
	s.must(s.node.StopKubelet())
	s.node.Kubeconfig = behind
	s.runAgent()
	s.within(time.Minute, func() error { _, err := s.local("get", "node", s.node.Name); return err })
	s.must(s.node.StartKubelet(s.Context()))
	return took
}

// rebootOffline reboots the node while the API server is not to be reached.
func (s *site) rebootOffline(cut func() error) time.Duration {
	s.Helper()
	s.autonomous()
	s.must(cut())
	took := s.reboot(func() { s.runAgent() })
	s.must(s.link.Restore())
	return took
}

// reboot cuts the power and measures from the start of the programs until all containers run. Then it waits until the pods are Ready again;
// the API server must be reachable by then.
func (s *site) reboot(agent func()) time.Duration {
	s.Helper()
	pods := s.pods()
	want := containersOf(pods)
	s.crash()
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
	s := newSite(b, lab.Options{})
	s.deploy("workload.yaml", 12)
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
func (s *site) watchSyncs(length time.Duration) int {
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
func (s *site) agentPID() int {
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
