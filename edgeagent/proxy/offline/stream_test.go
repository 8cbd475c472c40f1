package offline_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/offline"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// fakeKubelet is a kubelet with webhook authentication and authorization: it asks the proxy who calls.
type fakeKubelet struct {
	*httptest.Server
	site  *site
	asked chan string
}

func newFakeKubelet(t *testing.T) *fakeKubelet {
	k := &fakeKubelet{asked: make(chan string, 10)}
	k.Server = httptest.NewTLSServer(http.HandlerFunc(k.serve))
	t.Cleanup(k.Close)
	return k
}

// review posts a review to the proxy, as the node, and gives its status.
func (k *fakeKubelet) review(path string, review any) map[string]any {
	raw, _ := json.Marshal(review)
	r, err := http.NewRequest("POST", k.site.server.URL+path, strings.NewReader(string(raw)))
	if err != nil {
		return nil
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+nodeUser)
	resp, err := k.site.server.Client().Do(r)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var answer struct{ Status map[string]any }
	if resp.StatusCode != http.StatusCreated || json.NewDecoder(resp.Body).Decode(&answer) != nil {
		return nil
	}
	return answer.Status
}

func (k *fakeKubelet) serve(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	status := k.review("/apis/authentication.k8s.io/v1/tokenreviews", map[string]any{"kind": "TokenReview", "spec": map[string]any{"token": token}})
	if status["authenticated"] != true {
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	}
	user := status["user"].(map[string]any)["username"]
	spec := map[string]any{"user": user, "resourceAttributes": map[string]any{"verb": "get", "resource": "nodes", "subresource": "proxy", "name": nodeName}}
	if k.review("/apis/authorization.k8s.io/v1/subjectaccessreviews", map[string]any{"kind": "SubjectAccessReview", "spec": spec})["allowed"] != true {
		http.Error(w, "Forbidden", http.StatusForbidden)
		return
	}
	spec["resourceAttributes"].(map[string]any)["resource"] = "secrets"
	if k.review("/apis/authorization.k8s.io/v1/subjectaccessreviews", map[string]any{"kind": "SubjectAccessReview", "spec": spec}) != nil {
		http.Error(w, "the proxy vouches for too much", http.StatusInternalServerError)
		return
	}
	k.asked <- r.URL.String()
	if r.Header.Get("Upgrade") == "" {
		_, _ = io.WriteString(w, "a line of the log\n")
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
	line, _ := rw.ReadString('\n')
	_, _ = io.WriteString(conn, "echo "+line)
}

// withKubelet is a site whose node says that this kubelet is its.
func withKubelet(t *testing.T, k *fakeKubelet, files ...string) *site {
	t.Helper()
	s := newSite(t, func(c *offline.Config) { c.Kubelet.Certificates = files })
	k.site = s
	s.boot(t)
	u, _ := url.Parse(k.URL)
	port, _ := strconv.Atoi(u.Port())
	node := nodeOf("110")
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(port)
	s.replace(scope.Key{Identity: nodeUser, Resource: nodesResource, Fields: "metadata.name=" + nodeName}, "NodeList", "120", item(t, node, "v1", "Node"))
	s.replace(scope.Key{Identity: nodeUser, Resource: podsResource, Namespace: "default", Name: "two"}, "Pod", "50",
		item(t, podOf("default", "two", "50", func(p *corev1.Pod) {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "side"})
			p.Spec.InitContainers = []corev1.Container{{Name: "init"}}
		}), "v1", "Pod"))
	s.replace(scope.Key{Identity: nodeUser, Resource: podsResource, Namespace: "default", Name: "far"}, "Pod", "50",
		item(t, podOf("default", "far", "50", func(p *corev1.Pod) { p.Spec.NodeName = "n2" }), "v1", "Pod"))
	return s
}

func certificateFile(t *testing.T, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubelet.crt")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLogs(t *testing.T) {
	k := newFakeKubelet(t)
	s := withKubelet(t, k, filepath.Join(t.TempDir(), "missing.pem"), certificateFile(t, k.Certificate().Raw))
	const web = "/api/v1/namespaces/default/pods/web/log"
	for query, want := range map[string]string{
		"": "/containerLogs/default/web/main",
		"?follow=true&tailLines=3&container=main&pretty=true": "/containerLogs/default/web/main?follow=true&tailLines=3",
		"?previous=true&timestamps=true&sinceSeconds=5":       "/containerLogs/default/web/main?previous=true&sinceSeconds=5&timestamps=true",
	} {
		resp, body := s.ask(t, nodeUser, "GET", web+query, "")
		if resp.StatusCode != 200 || body != "a line of the log\n" {
			t.Fatalf("%s: got %d %s", query, resp.StatusCode, body)
		}
		if got := <-k.asked; got != want {
			t.Errorf("%s: the kubelet was asked %s, want %s", query, got, want)
		}
	}
	for _, test := range []struct {
		user, path string
		code       int
		want       string
	}{
		{nodeUser, "/api/v1/namespaces/default/pods/two/log", 400, "a container name must be specified for pod two, choose one of: [init main side]"},
		{nodeUser, "/api/v1/namespaces/default/pods/two/log?container=nope", 400, "container nope is not valid for pod two"},
		{nodeUser, "/api/v1/namespaces/default/pods/far/log", 503, `on node \"n2\"`},
		{nodeUser, "/api/v1/namespaces/default/pods/nobody/log", 503, "was not read"},
		{"system:serviceaccount:default:web@x", web, 503, "only root of this node"},
	} {
		resp, body := s.ask(t, test.user, "GET", test.path, "")
		if resp.StatusCode != test.code || !strings.Contains(body, test.want) {
			t.Errorf("%s: got %d %s, want %d %s", test.path, resp.StatusCode, body, test.code, test.want)
		}
	}
}

func TestExec(t *testing.T) {
	k := newFakeKubelet(t)
	s := withKubelet(t, k, certificateFile(t, k.Certificate().Raw))
	for _, test := range []struct{ path, upgrade, want string }{
		{"/api/v1/namespaces/default/pods/web/exec?command=sh&command=-c&stdin=true&stdout=1&stderr=false&tty=true", "SPDY/3.1", "/exec/default/web/main?command=sh&command=-c&input=1&output=1&tty=1"},
		{"/api/v1/namespaces/default/pods/two/attach?container=side&stdout=true", "websocket", "/attach/default/two/side?output=1"},
		{"/api/v1/namespaces/default/pods/web/portforward?ports=80", "websocket", "/portForward/default/web?port=80"},
	} {
		t.Run(test.want, func(t *testing.T) {
			if got := upgrade(t, s, test.path, test.upgrade); got != "HTTP/1.1 101 Switching Protocols: echo hello" {
				t.Fatalf("got %q", got)
			}
			if got := <-k.asked; got != test.want {
				t.Errorf("the kubelet was asked %s, want %s", got, test.want)
			}
		})
	}
}

// upgrade asks for another protocol on a connection of its own, says hello, and gives the status line and the answer.
func upgrade(t *testing.T, s *site, path, protocol string) string {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(s.server.Certificate())
	conn, err := tls.Dial("tcp", s.server.Listener.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "example.com", NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\nContent-Length: 0\r\n\r\n", path, nodeUser, protocol)
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(resp.Body)
		return resp.Status + ": " + string(body)
	}
	fmt.Fprint(conn, "hello\n")
	line, err := reader.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return resp.Proto + " " + resp.Status + ": " + strings.TrimSpace(line)
}

// TestImpostor: what listens at the kubelet's port but does not show its certificate is told nothing.
func TestImpostor(t *testing.T) {
	k := newFakeKubelet(t)
	// All servers of httptest show the same certificate.
	s := withKubelet(t, k, certificateFile(t, []byte("somebody else's")))
	resp, body := s.ask(t, nodeUser, "GET", "/api/v1/namespaces/default/pods/web/log", "")
	if resp.StatusCode != 503 || !strings.Contains(body, "does not show the kubelet's certificate") {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
	select {
	case path := <-k.asked:
		t.Errorf("it was asked for %s", path)
	default:
	}
}

// TestKubeletThatAsksNobody: the message says what to configure.
func TestKubeletThatAsksNobody(t *testing.T) {
	k := newFakeKubelet(t)
	s := withKubelet(t, k)
	k.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "Unauthorized", http.StatusUnauthorized) })
	resp, body := s.ask(t, nodeUser, "GET", "/api/v1/namespaces/default/pods/web/log", "")
	if resp.StatusCode != 503 || !strings.Contains(body, "authentication.webhook.enabled") {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
}

// TestNoKubelet: nobody listens.
func TestNoKubelet(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	s := newSite(t)
	s.boot(t)
	node := nodeOf("110")
	node.Status.Addresses = nil
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(l.Addr().(*net.TCPAddr).Port)
	s.replace(scope.Key{Identity: nodeUser, Resource: nodesResource, Fields: "metadata.name=" + nodeName}, "NodeList", "120", item(t, node, "v1", "Node"))
	resp, body := s.ask(t, nodeUser, "GET", "/api/v1/namespaces/default/pods/web/log", "")
	if resp.StatusCode != 503 || !strings.Contains(body, "the kubelet does not answer") {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
}
