//go:build e2e

package autonomy

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// callers is a site whose node has no kubelet: the tests themselves are its components and pods.
type callers struct {
	*site
	// proxy is the proxy's host and port.
	proxy string
}

// newCallers brings a cluster up with one node of which only the agent runs.
func newCallers(tb testing.TB) *callers {
	tb.Helper()
	s := &site{TB: tb, lab: labtest.Start(tb, lab.Options{Services: true})}
	c := &callers{site: s, proxy: freeAddress(tb)}
	var err error
	s.link, err = s.lab.NewLink()
	s.must(err)
	s.node, err = s.lab.AddNode(s.Context(), lab.NodeOptions{Name: "shop-1"})
	s.must(err)
	s.startFleet(s.node.Name)
	s.installHoldfast()
	s.kubectl("apply", "-f", filepath.Join("testdata", "callers.yaml"))
	s.kubectl("wait", "--for=condition=Established", "crd/tills.shop.example.com", "--timeout=60s")
	c.enrolAlone()
	c.startAgent()
	c.linkIs("Online")
	return c
}

// freeAddress gives a loopback address that nobody listens at.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// enrolAlone enrols the node without a kubelet to put behind the proxy.
func (c *callers) enrolAlone() {
	c.Helper()
	dir, err := os.MkdirTemp("", "hf") // sockets' paths are short
	c.must(err)
	c.Cleanup(func() { os.RemoveAll(dir) })
	c.state, c.kubeconfig = filepath.Join(dir, "s"), filepath.Join(dir, "node.conf")
	raw, err := os.ReadFile(c.node.Kubeconfig)
	c.must(err)
	c.must(os.WriteFile(c.kubeconfig, []byte(strings.ReplaceAll(string(raw), c.lab.Server(), c.link.Server)), 0o600))
	_, err = c.holdfastAgent("enroll", "--node", c.node.Name, "--pool", "berlin", "--repo", c.fleet.URL, "--branch", "main",
		"--anchor", c.fleet.Anchor(), "--ca", c.fleet.CA, "--kubeconfig", c.kubeconfig, "--proxy=false")
	c.must(err)
}

// startAgent starts the agent's process, at an address that no other test uses.
func (c *callers) startAgent() {
	c.Helper()
	c.runAgent("--proxy-address", c.proxy, "--pod-address", "off", "--address", "off")
}

// asNode gives a client's configuration with the node's local certificate.
func (c *callers) asNode() *rest.Config {
	return &rest.Config{Host: "https://" + c.proxy, QPS: -1, WarningHandler: rest.NoWarnings{}, TLSClientConfig: rest.TLSClientConfig{
		CAFile: c.tls("ca.crt"), CertFile: c.tls("kubelet.crt"), KeyFile: c.tls("kubelet.key")}}
}

// asPod gives a client's configuration with a token.
func (c *callers) asPod(token string) *rest.Config {
	return &rest.Config{Host: "https://" + c.proxy, QPS: -1, WarningHandler: rest.NoWarnings{}, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAFile: c.tls("ca.crt")}}
}

// tls gives a file of the agent's own certificates.
func (c *callers) tls(name string) string { return filepath.Join(c.state, "tls", name) }

// token gives a service account's token, as the kubelet asks for one.
func (c *callers) token(namespace, name string) string {
	c.Helper()
	var answer struct{ Status struct{ Token string } }
	c.must(c.lab.Request(c.Context(), http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+name+"/token",
		map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": map[string]any{"expirationSeconds": 7200}}, &answer))
	return answer.Status.Token
}

// linkIs waits until the agent says that its link is so: answers that are served offline carry their age.
func (c *callers) linkIs(state string) {
	c.Helper()
	client, err := rest.HTTPClientFor(c.asNode())
	c.must(err)
	defer client.CloseIdleConnections()
	client.Timeout = 5 * time.Second
	c.within(30*time.Second, func() error {
		resp, err := client.Get("https://" + c.proxy + "/api/v1/nodes/" + c.node.Name)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		offline := resp.Header.Get("Holdfast-Cache-Age") != ""
		if resp.StatusCode != http.StatusOK || offline != (state == "Offline") {
			return fmt.Errorf("want an answer that was read %s, got %s, offline %v", state, resp.Status, offline)
		}
		return nil
	})
}
