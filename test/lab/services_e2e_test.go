//go:build e2e

package lab_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// TestServices: a Service answers from both of its pods, the service kubernetes is the API server, a node comes back from a power
// cut with its pods, and etcd from a snapshot.
func TestServices(t *testing.T) {
	l := labtest.Start(t, lab.Options{Controllers: true, Services: true})
	n, err := l.AddNode(t.Context(), lab.NodeOptions{Name: "shop-1", Kubelet: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.StartKubeProxy(l.AdminKubeconfig()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web-a", "web-b"} {
		if err := runPod(t.Context(), l, name, "shop-1"); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := l.Kubectl(t.Context(), "create", "service", "clusterip", "web", "--tcp=80:8080"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	address, err := l.Kubectl(t.Context(), "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
	if err != nil {
		t.Fatal(err)
	}
	both := func() error { return answersFromBoth(t.Context(), "http://"+strings.TrimSpace(address)) }
	within(t, time.Minute, both)
	within(t, time.Minute, func() error { return speaksTLS("10.96.0.1:443") })

	if err := l.SaveEtcd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := l.Kubectl(t.Context(), "create", "namespace", "later"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	before := running(t, n)
	if len(before) != 2 {
		t.Errorf("%v run, want both pods", before)
	}
	if err := n.Crash(); err != nil {
		t.Fatal(err)
	}
	if got := running(t, n); len(got) != 0 {
		t.Errorf("%v run after the power was cut", got)
	}
	if err := both(); err == nil {
		t.Fatal("the pods answer after the power was cut")
	}
	if err := n.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.StartKubelet(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, 90*time.Second, both)
	if got := running(t, n); !maps.Equal(got, before) {
		t.Errorf("after the power cut %v run, before it %v", got, before)
	}
	if err := l.RestoreEtcd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := l.Kubectl(t.Context(), "get", "namespace", "later"); err == nil {
		t.Fatalf("the namespace made after the snapshot is still there: %s", out)
	}
}

// TestLink: a cut link answers nothing, not even a refusal, and does when it is back; the API server itself goes on.
func TestLink(t *testing.T) {
	l := labtest.Start(t, lab.Options{Services: true})
	link, err := l.NewLink()
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(link.Server, "https://")
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}) // reachability is all that is asked
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := link.Cut(); err != nil {
		t.Fatal(err)
	}
	if err := speaksTLS(address); err == nil || strings.Contains(err.Error(), "refused") {
		t.Errorf("dialling over the cut link: %v, want a timeout", err)
	}
	fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: lab\r\n\r\n")
	conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("an open connection still answers over the cut link")
	}
	if err := l.Request(t.Context(), http.MethodGet, "/readyz", nil, nil); err != nil {
		t.Errorf("the API server is gone with the link: %v", err)
	}
	if err := link.Restore(); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, func() error { return speaksTLS(address) })
}

// running gives the UIDs of the pods whose containers run, by name.
func running(t *testing.T, n *lab.Node) map[string]string {
	t.Helper()
	containers, err := n.Containers()
	if err != nil {
		t.Fatal(err)
	}
	pods := map[string]string{}
	for _, c := range containers {
		pods[c.Namespace+"/"+c.Pod] = c.UID
	}
	return pods
}

func speaksTLS(address string) error {
	dialer := &net.Dialer{Timeout: 500 * time.Millisecond}
	conn, err := tls.DialWithDialer(dialer, "tcp", address, &tls.Config{InsecureSkipVerify: true}) // reachability is all that is asked
	if err != nil {
		return err
	}
	return conn.Close()
}

// answersFromBoth asks until both pods have answered.
func answersFromBoth(ctx context.Context, url string) error {
	// Every request has a connection of its own, for which kube-proxy picks a pod.
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	seen := map[string]bool{}
	for range 40 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		var name [64]byte
		n, _ := resp.Body.Read(name[:])
		resp.Body.Close()
		seen[strings.TrimSpace(string(name[:n]))] = true
		if seen["web-a"] && seen["web-b"] {
			return nil
		}
	}
	return fmt.Errorf("only %v answered", seen)
}

// within asks until it works or time is up.
func within(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	deadline, tick := time.After(limit), time.NewTicker(100*time.Millisecond)
	defer tick.Stop()
	for err := f(); err != nil; err = f() {
		select {
		case <-deadline:
			t.Fatal(err)
		case <-tick.C:
		}
	}
}
