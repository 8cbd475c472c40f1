//go:build bench

package main

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

	"github.com/holdfast-dev/holdfast/edgeagent"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/test/lab"
)

// idleEnv shortens or lengthens the watch over the idle agent.
const idleEnv = "HOLDFAST_BENCH_IDLE"

// agentProcess enrols the first node of a site and runs the real program for it.
func agentProcess(b *testing.B, s *site) (*lab.Process, edgeagent.Control) {
	b.Helper()
	program, err := filepath.Abs("../../bin/holdfast-agent")
	check(b, err)
	if _, err := os.Stat(program); err != nil {
		b.Fatalf("%v: run `make build`", err)
	}
	state := filepath.Join(b.TempDir(), "state")
	check(b, s.enroll(b.Context(), 0, state))
	p, err := s.lab.Run(lab.Command{Name: "agent", Path: program,
		Args: []string{"run", "--state", state, "--address", "127.0.0.1:0", "--proxy-address", "127.0.0.1:6440", "--pod-address", "off", "--config", os.DevNull}})
	check(b, err)
	control := edgeagent.Control{State: state}
	check(b, ready(b.Context(), control))
	return p, control
}

// ready waits until an agent says that all is well and that the cluster heard so.
func ready(ctx context.Context, control edgeagent.Control) error {
	return poll(ctx, 2*time.Minute, "agent is ready", func() error {
		s, err := control.Status(ctx)
		if err != nil {
			return err
		}
		for _, typ := range []string{condition.Ready, condition.Reported} {
			if c, _ := condition.Get(s.Conditions, typ); c.Status != condition.True {
				return fmt.Errorf("%s is %s: %s %s", typ, c.Status, c.Reason, c.Message)
			}
		}
		return nil
	})
}

// BenchmarkIdleAgent watches an agent to which nothing happens for ten minutes. It runs once, whatever b.N.
func BenchmarkIdleAgent(b *testing.B) {
	length := 10 * time.Minute
	if text := os.Getenv(idleEnv); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		check(b, err)
	}
	s := newSite(b, perPool, time.Minute)
	agent, _ := agentProcess(b, s)
	// What the start changed is written within half a minute; idle begins after that.
	watch(b, agent, 45*time.Second)
	requests, polls := s.apiRequests(b), len(s.git.Requests())
	syncs := watch(b, agent, length)
	b.ReportMetric(memoryKB(b, agent.PID(), "VmRSS")/1024, "resident-MB")
	b.ReportMetric(memoryKB(b, agent.PID(), "RssAnon")/1024, "anon-MB")
	b.ReportMetric(float64(syncs), "fsyncs")
	b.ReportMetric(length.Minutes(), "minutes")
	b.ReportMetric(float64(s.apiRequests(b)-requests)/length.Minutes(), "api-requests/minute")
	b.ReportMetric(float64(len(s.git.Requests())-polls)/length.Minutes(), "git-requests/minute")
	b.ReportMetric(0, "ns/op") // a time would say nothing
}

// syncCall matches a call by which a program waits for the disk, in strace's output.
var syncCall = regexp.MustCompile(`(?m)\b(fsync|fdatasync|sync|syncfs|sync_file_range|msync)\(`)

// watch counts a process's calls that wait for the disk, with strace, for that long.
func watch(b *testing.B, p *lab.Process, length time.Duration) int {
	b.Helper()
	log := filepath.Join(b.TempDir(), "strace")
	ctx, cancel := context.WithTimeout(b.Context(), length)
	defer cancel()
	cmd := exec.CommandContext(ctx, "strace", "-f", "-o", log, "-e", "trace=fsync,fdatasync,sync,syncfs,sync_file_range,msync",
		"-p", strconv.Itoa(p.PID()))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) } // it lets go of the process
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	if ctx.Err() == nil {
		b.Fatalf("strace ended early: %v: %s", err, &stderr)
	}
	select {
	case <-p.Done():
		b.Fatal("the agent ended")
	default:
	}
	data, err := os.ReadFile(log)
	check(b, err)
	return len(syncCall.FindAll(data, -1))
}
