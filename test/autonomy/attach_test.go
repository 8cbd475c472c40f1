//go:build e2e || bench

package autonomy

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/test/lab"
)

// addNode adds a node as kubeadm would leave one, enrols it behind the proxy as docs/proxy.md says, and restarts its kubelet.
func (s *site) addNode(name string) {
	s.Helper()
	var err error
	s.link, err = s.lab.NewLink()
	s.must(err)
	s.node, err = s.lab.AddNode(s.Context(), lab.NodeOptions{Name: name, Kubelet: true, Informer: true})
	s.must(err)
	s.startFleet(name)
	s.installHoldfast()
	s.enrol()
	s.runAgent()
	s.within(time.Minute, func() error { _, err := s.local("get", "node", name); return err })
	s.must(s.node.StopKubelet())
	s.node.Kubeconfig = s.kubeconfig
	s.must(s.node.StartKubelet(s.Context()))
	s.startKubeProxy()
}

// enrol puts the node behind the proxy.
func (s *site) enrol() {
	s.Helper()
	dir, err := os.MkdirTemp("", "hf") // sockets' paths are short
	s.must(err)
	s.Cleanup(func() { os.RemoveAll(dir) })
	s.state = filepath.Join(dir, "s")
	s.kubeconfig = filepath.Join(dir, "kubelet.conf")
	// The way to the API server that the test cuts.
	raw, err := os.ReadFile(s.node.Kubeconfig)
	s.must(err)
	s.must(os.WriteFile(s.kubeconfig, []byte(strings.ReplaceAll(string(raw), s.lab.Server(), s.link.Server)), 0o600))
	_, err = s.holdfastAgent("enroll", "--node", s.node.Name, "--pool", "berlin", "--repo", s.fleet.URL, "--branch", "main",
		"--anchor", s.fleet.Anchor(), "--ca", s.fleet.CA, "--kubeconfig", s.kubeconfig,
		"--kubelet-config", s.node.KubeletConfig(), "--kubelet-cert-dir", s.node.KubeletCertDir())
	s.must(err)
}

// startKubeProxy starts kube-proxy with a service account's token, as a DaemonSet's pod has one, through the proxy.
func (s *site) startKubeProxy() {
	s.Helper()
	s.kubectl("create", "serviceaccount", "-n", "kube-system", "kube-proxy")
	s.kubectl("create", "clusterrolebinding", "kube-proxy", "--clusterrole=system:node-proxier", "--serviceaccount=kube-system:kube-proxy")
	var answer struct{ Status struct{ Token string } }
	s.must(s.lab.Request(s.Context(), http.MethodPost, "/api/v1/namespaces/kube-system/serviceaccounts/kube-proxy/token",
		map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": map[string]any{"expirationSeconds": 86400}}, &answer))
	type object = map[string]any
	config, err := json.Marshal(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "proxy",
		"clusters": []object{{"name": "proxy", "cluster": object{"server": "https://127.0.0.1:6440", "certificate-authority": filepath.Join(s.state, "tls", "ca.crt")}}},
		"users":    []object{{"name": "kube-proxy", "user": object{"token": answer.Status.Token}}},
		"contexts": []object{{"name": "proxy", "context": object{"cluster": "proxy", "user": "kube-proxy"}}},
	})
	s.must(err)
	s.kubeProxy = filepath.Join(filepath.Dir(s.state), "kube-proxy.conf")
	s.must(os.WriteFile(s.kubeProxy, config, 0o600))
	_, err = s.node.StartKubeProxy(s.kubeProxy)
	s.must(err)
}

// installHoldfast runs `holdfast install` and makes the node's EdgeNode, as the hub would.
func (s *site) installHoldfast() {
	s.Helper()
	s.must(installAll(s.Context(), s.lab))
	s.must(s.lab.Request(s.Context(), http.MethodPost, "/apis/fleet.holdfast.dev/v1alpha1/edgenodes", map[string]any{
		"apiVersion": "fleet.holdfast.dev/v1alpha1", "kind": "EdgeNode", "metadata": map[string]any{"name": s.node.Name},
		"spec": map[string]any{"fleet": verifytest.Fleet, "pool": "berlin"}}, nil))
}

// autonomous waits until the agent says that the node would come back whole, and gives what is kept for its pods the time to catch up: a
// watch that does not follow on what is kept is mended within seconds.
func (s *site) autonomous() {
	s.Helper()
	kept := 0                                                                                        // looks in a row at which nothing was behind
	for deadline := time.Now().Add(20 * time.Second); kept < 3; time.Sleep(100 * time.Millisecond) { // a gap is one after 50 ms, and what came is on disk after 100
		behind, err := s.behind()
		if kept++; err != nil || behind > 0 {
			kept = 0
		}
		if time.Now().After(deadline) {
			s.Logf("%d scopes are still behind: %v", behind, err)
			break
		}
	}
	s.within(2*time.Minute, func() error {
		out, err := s.holdfastAgent("selftest")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// behind gives how many of the scopes that the agent keeps are behind what the API server sent.
func (s *site) behind() (int, error) {
	ca, err := os.ReadFile(filepath.Join(s.state, "tls", "ca.crt"))
	if err != nil {
		return 0, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	resp, err := c.Get("https://127.0.0.1:9440/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(raw), "holdfast_proxy_scopes{state=\"dirty\"} ")
	if !found {
		return 0, errors.New("the agent does not say how many scopes are behind")
	}
	var n int
	_, err = fmt.Sscan(rest, &n)
	return n, err
}
