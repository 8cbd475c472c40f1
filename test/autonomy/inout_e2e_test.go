//go:build e2e

package autonomy

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/kube"
	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// TestInAndOut puts a kubelet as kubeadm leaves one behind the proxy and takes it out again, as docs/proxy.md says, with the commands of
// a new user. It runs as the same Node throughout, and at the end every byte of its files is as it was.
func TestInAndOut(t *testing.T) {
	s := &site{TB: t, lab: labtest.Start(t, lab.Options{Controllers: true})}
	var err error
	s.node, err = s.lab.AddNode(t.Context(), lab.NodeOptions{Name: "till-1", Kubelet: true})
	s.must(err)
	s.asKubeadm()
	s.startFleet(s.node.Name)
	s.installHoldfast()
	uid := s.kubectl("get", "node", "till-1", "-o", "jsonpath={.metadata.uid}")
	before := s.files()
	proxy := freeAddress(t)
	layout := []string{"--kubelet-config", s.node.KubeletConfig(), "--kubelet-cert-dir", s.node.KubeletCertDir(), "--proxy-address", proxy}
	s.state = filepath.Join(shortDir(t), "s")
	agent := func(args ...string) string {
		t.Helper()
		out, err := s.holdfastAgent(args...)
		s.must(err)
		return out
	}
	restart := func() {
		t.Helper()
		s.must(s.node.StopKubelet())
		_, err := s.node.LaunchKubelet()
		s.must(err)
	}

	out := agent(append([]string{"enroll", "--node", "till-1", "--pool", "berlin", "--repo", s.fleet.URL, "--branch", "main",
		"--anchor", s.fleet.Anchor(), "--ca", s.fleet.CA, "--kubeconfig", s.node.Kubeconfig}, layout...)...)
	if !strings.Contains(out, "is behind the proxy") || strings.Contains(out, "warning") {
		t.Errorf("enroll says:\n%s", out)
	}
	s.beats("the kubelet was not restarted yet")
	if _, err := s.holdfastAgent("proxy", "check"); err == nil {
		t.Error("the proxy answers, and the agent does not run")
	}
	s.runAgent("--proxy-address", proxy, "--pod-address", "off", "--address", "off")
	s.within(30*time.Second, func() error { _, err := s.holdfastAgent("proxy", "check"); return err })
	restart()
	s.beats("behind the proxy")
	s.autonomous()
	s.must(s.lab.Stop("agent"))
	s.silent("behind the proxy, without the agent")

	// Out, alone.
	if out := agent("proxy", "detach"); strings.Contains(out, "note") {
		t.Errorf("detach says:\n%s", out)
	}
	s.sameFiles(before)
	restart()
	s.beats("out of the proxy")

	// In again, and out with the enrolment.
	agent(append([]string{"proxy", "attach", "--kubeconfig", s.node.Kubeconfig}, layout...)...)
	s.runAgent("--proxy-address", proxy, "--pod-address", "off", "--address", "off")
	restart()
	s.beats("behind the proxy again")
	s.must(s.lab.Stop("agent"))
	agent("unenroll")
	s.sameFiles(before)
	restart()
	s.beats("not enrolled")
	if got := s.kubectl("get", "node", "till-1", "-o", "jsonpath={.metadata.uid}"); got != uid {
		t.Errorf("the Node is another: %s, was %s", got, uid)
	}
}

// shortDir gives a folder whose path is short enough for a socket in it.
func shortDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// asKubeadm lays the kubelet's files out as kubeadm does: it renews its certificate itself, and its kubeconfig names a link to it.
func (s *site) asKubeadm() {
	s.Helper()
	s.must(s.node.StopKubelet())
	cfg, err := kube.Load(s.node.Kubeconfig)
	s.must(err)
	cert, err := cfg.Cert.Read()
	s.must(err)
	key, err := cfg.Key.Read()
	s.must(err)
	pki := s.node.KubeletCertDir()
	own, current := filepath.Join(pki, "kubelet-client-2026-01-01-00-00-00.pem"), filepath.Join(pki, "kubelet-client-current.pem")
	s.must(os.WriteFile(own, append(cert, key...), 0o600))
	s.must(os.Symlink(own, current))
	cfg.Cert, cfg.Key = kube.Material{File: current}, kube.Material{File: current}
	raw, err := cfg.Copy()
	s.must(err)
	s.node.Kubeconfig = filepath.Join(shortDir(s.TB), "kubelet.conf")
	s.kubeconfig = s.node.Kubeconfig
	s.must(os.WriteFile(s.node.Kubeconfig, raw, 0o600))
	config, err := os.ReadFile(s.node.KubeletConfig())
	s.must(err)
	s.must(os.WriteFile(s.node.KubeletConfig(), append(config, "rotateCertificates: true\n"...), 0o644))
	s.must(s.node.StartKubelet(s.Context()))
	s.beats("as kubeadm left it")
}

// files gives what the kubelet is started with: its kubeconfig, its configuration and its certificates.
func (s *site) files() map[string]string {
	s.Helper()
	out := map[string]string{}
	add := func(path string) {
		raw, err := os.ReadFile(path)
		s.must(err)
		info, err := os.Lstat(path)
		s.must(err)
		out[path] = info.Mode().String() + " " + string(raw)
	}
	for _, dir := range []string{filepath.Dir(s.node.Kubeconfig), s.node.KubeletCertDir()} {
		s.must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				add(path)
			}
			return err
		}))
	}
	add(s.node.KubeletConfig())
	return out
}

func (s *site) sameFiles(before map[string]string) {
	s.Helper()
	after := s.files()
	for path, want := range before {
		if after[path] != want {
			s.Errorf("%s is not as it was:\n%s", path, after[path])
		}
	}
	for path := range after {
		if _, ok := before[path]; !ok {
			s.Errorf("left behind: %s", path)
		}
	}
}

// lastBeat gives the kubelet's last heartbeat, as the API server has it.
func (s *site) lastBeat() (time.Time, error) {
	var lease struct{ Spec struct{ RenewTime time.Time } }
	err := s.lab.Request(s.Context(), http.MethodGet, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/"+s.node.Name, nil, &lease)
	return lease.Spec.RenewTime, err
}

// beats waits until the kubelet has renewed its lease from now on.
func (s *site) beats(when string) {
	s.Helper()
	from := time.Now()
	s.within(time.Minute, func() error {
		at, err := s.lastBeat()
		if err == nil && !at.After(from) {
			err = fmt.Errorf("%s: the kubelet renewed its lease last at %v", when, at)
		}
		return err
	})
}

// silent checks that the kubelet does not reach the API server over more than the time between two heartbeats.
func (s *site) silent(when string) {
	s.Helper()
	last, err := s.lastBeat()
	s.must(err)
	for until := time.After(15 * time.Second); ; {
		select {
		case <-until:
			return
		case <-time.After(500 * time.Millisecond):
			if got, err := s.lastBeat(); err != nil || !got.Equal(last) {
				s.Fatalf("%s: the kubelet renewed its lease at %s, %v", when, got, err)
			}
		}
	}
}
