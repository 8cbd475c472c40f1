//go:build e2e

package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// shared is written by a command and read by its test.
type shared struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *shared) await(t *testing.T, want string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		s.mu.Lock()
		got := s.text.String()
		s.mu.Unlock()
		if strings.Contains(got, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %q in\n%s", want, got)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestInstallAndStatus(t *testing.T) {
	l := labtest.Start(t, lab.Options{})
	at := "--kubeconfig=" + l.AdminKubeconfig()
	if code, _, errs := runHoldfast(t, "status", at); code != cli.ExitWrong || !strings.Contains(errs, "run `holdfast install` first") {
		t.Errorf("status before install: exit code %d, %s", code, errs)
	}
	for _, outcome := range []string{"created", "unchanged"} {
		code, out, errs := runHoldfast(t, "install", at)
		if code != 0 || strings.Count(out, " "+outcome+"\n") != strings.Count(out, "\n") || !strings.Contains(out, "customresourcedefinition/nodepools.fleet.holdfast.dev "+outcome) {
			t.Fatalf("install: exit code %d\n%s%s", code, out, errs)
		}
	}
	if code, out, _ := runHoldfast(t, "status", at); code != 0 || !strings.HasPrefix(out, "No pools yet") {
		t.Errorf("status of an empty fleet: exit code %d, %q", code, out)
	}

	var screen shared
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int)
	go func() {
		env := &cli.Env{Out: &screen, Err: &screen, Getenv: func(string) string { return "" }}
		ended <- cli.Run(ctx, env, newRootCommand, []string{"status", "-w", at})
	}()
	screen.await(t, "No pools yet")
	send := func(method, path, body string) {
		t.Helper()
		var in any = rawJSON(body)
		if err := l.Request(t.Context(), method, path, in, nil); err != nil {
			t.Fatal(err)
		}
	}
	const api = "/apis/fleet.holdfast.dev/v1alpha1/"
	send("POST", api+"nodepools", `{"apiVersion":"fleet.holdfast.dev/v1alpha1","kind":"NodePool","metadata":{"name":"berlin"},"spec":{"fleet":"shops","type":"Edge"}}`)
	screen.await(t, "1 pool, 0 nodes")
	for i := range 3 {
		send("POST", api+"edgenodes", fmt.Sprintf(`{"apiVersion":"fleet.holdfast.dev/v1alpha1","kind":"EdgeNode","metadata":{"name":"till-%d","labels":{"fleet.holdfast.dev/pool":"berlin"}},"spec":{"fleet":"shops","pool":"berlin"}}`, i))
	}
	screen.await(t, "till-2   berlin   NodeMissing")
	if _, err := l.AddNode(t.Context(), lab.NodeOptions{Name: "till-2"}); err != nil {
		t.Fatal(err)
	}
	screen.await(t, "till-2   berlin   NoReport")

	// The cluster goes away and comes back: -w says so and goes on.
	if err := l.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	screen.await(t, "trying again")
	if err := l.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	send("PATCH", api+"edgenodes/till-2/status", `{"status":{"conditions":[{"type":"Ready","status":"False","reason":"BackingOff","message":"so it goes","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`)
	screen.await(t, "BackingOff    so it goes")
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("-w ended with exit code %d", code)
	}

	code, out, _ := runHoldfast(t, "status", at, "--pool", "berlin", "-o", "json")
	if code != 0 || !strings.Contains(out, `"reason": "BackingOff"`) || !strings.Contains(out, `"nodes": 3`) {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if code, out, _ := runHoldfast(t, "status", at, "--pool", "absent"); code != 0 || out != "There is no pool absent.\n" {
		t.Errorf("exit code %d, %q", code, out)
	}
	viewer, err := l.Kubeconfig("viewer", "viewer")
	if err != nil {
		t.Fatal(err)
	}
	if code, _, errs := runHoldfast(t, "status", "--kubeconfig="+viewer); code != cli.ExitWrong || !strings.Contains(errs, "forbidden") {
		t.Errorf("without rights: exit code %d, %s", code, errs)
	}
	if out, err := l.Kubectl(t.Context(), "create", "clusterrolebinding", "viewer", "--clusterrole=holdfast-view", "--user=viewer"); err != nil {
		t.Fatal(out, err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		code, out, errs := runHoldfast(t, "status", "--kubeconfig="+viewer)
		if code == 0 && strings.Contains(out, "1 pool, 3 nodes") {
			break // may list no Nodes, and sees what the agents say
		}
		if time.Now().After(deadline) {
			t.Fatalf("a viewer sees: exit code %d\n%s%s", code, out, errs)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

type rawJSON string

func (r rawJSON) MarshalJSON() ([]byte, error) { return []byte(r), nil }
