//go:build e2e || bench

package autonomy

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/test/lab"
	"github.com/holdfast-dev/holdfast/test/lab/labtest"
)

// How much a loaded node has: as many pods as a kubelet takes by default.
const (
	loadPods, loadSecrets, loadConfigMaps = 110, 200, 40
	loadSpace                             = "load"
)

// What clients accept: kubelets protobuf before JSON.
const (
	protobufList  = "application/vnd.kubernetes.protobuf,application/json"
	protobufWatch = "application/vnd.kubernetes.protobuf;stream=watch,application/json;stream=watch"
)

// loaded is a node with a real agent whose kubelet is the test, so that what the proxy costs is not lost in what a kubelet does.
type loaded struct {
	*site
	// address is the proxy's, https://host:port; metrics is where the agent's metrics are.
	address, metrics string
	agent            *lab.Process
	// behind are the TLS settings of the kubelet's connection to the proxy, straight those to the API server as the same node, health those
	// to the metrics.
	behind, straight, health *tls.Config
}

// newLoaded brings a cluster, an enrolled node and its agent up.
func newLoaded(tb testing.TB) *loaded {
	tb.Helper()
	l := &loaded{site: &site{TB: tb, lab: labtest.Start(tb, lab.Options{Services: true})}}
	var err error
	l.link, err = l.lab.NewLink()
	l.must(err)
	l.node, err = l.lab.AddNode(tb.Context(), lab.NodeOptions{Name: "shop-1"})
	l.must(err)
	l.startFleet(l.node.Name)
	l.installHoldfast()
	l.enrolWith("--proxy=false") // the kubelet stays as it is: there is none
	l.credentials()
	l.startAgent()
	return l
}

// enrolWith enrols the node by the link that the test cuts.
func (s *site) enrolWith(flags ...string) {
	s.Helper()
	dir, err := os.MkdirTemp("", "hf") // sockets' paths are short
	s.must(err)
	s.Cleanup(func() { os.RemoveAll(dir) })
	s.state, s.kubeconfig = filepath.Join(dir, "s"), filepath.Join(dir, "kubelet.conf")
	raw, err := os.ReadFile(s.node.Kubeconfig)
	s.must(err)
	s.must(os.WriteFile(s.kubeconfig, []byte(strings.ReplaceAll(string(raw), s.lab.Server(), s.link.Server)), 0o600))
	_, err = s.holdfastAgent(append([]string{"enroll", "--node", s.node.Name, "--pool", "berlin", "--repo", s.fleet.URL, "--branch", "main",
		"--anchor", s.fleet.Anchor(), "--ca", s.fleet.CA, "--kubeconfig", s.kubeconfig}, flags...)...)
	s.must(err)
}

// credentials reads what the kubelet would have: the local certificate, and for the way without a proxy the cluster's own.
func (l *loaded) credentials() {
	l.Helper()
	read := func(name string) []byte {
		raw, err := os.ReadFile(filepath.Join(l.state, "tls", name))
		l.must(err)
		return raw
	}
	l.behind = l.tls(read("ca.crt"), read("kubelet.crt"), read("kubelet.key"))
	l.health = l.behind.Clone()
	l.health.Certificates = nil
	var kubeconfig struct {
		Clusters []struct {
			Cluster struct {
				CA string `json:"certificate-authority-data"`
			}
		}
		Users []struct {
			User struct {
				Cert string `json:"client-certificate-data"`
				Key  string `json:"client-key-data"`
			}
		}
	}
	raw, err := os.ReadFile(l.node.Kubeconfig)
	l.must(err)
	l.must(json.Unmarshal(raw, &kubeconfig))
	decode := func(text string) []byte {
		data, err := base64.StdEncoding.DecodeString(text)
		l.must(err)
		return data
	}
	user := kubeconfig.Users[0].User
	l.straight = l.tls(decode(kubeconfig.Clusters[0].Cluster.CA), decode(user.Cert), decode(user.Key))
}

func (l *loaded) tls(ca, cert, key []byte) *tls.Config {
	l.Helper()
	pair, err := tls.X509KeyPair(cert, key)
	l.must(err)
	conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{pair}}
	conf.RootCAs.AppendCertsFromPEM(ca)
	return conf
}

// startAgent starts the agent's process with an address of its own for the proxy, and does not wait for it.
func (l *loaded) startAgent() {
	l.Helper()
	if l.address == "" {
		l.address, l.metrics = "https://"+l.free(), "https://"+l.free()+"/metrics"
	}
	path, err := agentProgram()
	l.must(err)
	l.agent, err = l.lab.Run(lab.Command{Name: "agent", Path: path, Args: []string{
		"run", "--state", l.state, "--config", os.DevNull, "--address", strings.TrimSuffix(strings.TrimPrefix(l.metrics, "https://"), "/metrics"),
		"--proxy-address", strings.TrimPrefix(l.address, "https://"), "--pod-address", "off",
	}})
	l.must(err)
}

// free gives an address on which nobody listens.
func (s *site) free() string {
	s.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	defer free.Close()
	return free.Addr().String()
}

// client gives a client with a connection of its own: HTTP/2, as client-go's are.
func client(conf *tls.Config) *http.Client {
	t := &http.Transport{TLSClientConfig: conf.Clone(), ForceAttemptHTTP2: true, DisableCompression: true}
	return &http.Client{Transport: t}
}

// ask reads an answer whole. Anything but 200 is an error.
func ask(c *http.Client, address, accept string) ([]byte, http.Header, error) {
	resp, err := open(c, address, accept)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return raw, resp.Header, err
}

// open sends a GET and leaves the body to be read.
func open(c *http.Client, address, accept string) (*http.Response, error) {
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return nil, fmt.Errorf("GET %s: %s: %s", address, resp.Status, raw)
	}
	return resp, nil
}

// serves waits until the proxy answers for the node, online or offline.
func (l *loaded) serves() {
	l.Helper()
	c := client(l.behind)
	defer c.CloseIdleConnections()
	l.within(time.Minute, func() error {
		_, _, err := ask(c, l.address+"/api/v1/nodes/"+l.node.Name, protobufList)
		return err
	})
}

// offline waits until the proxy answers from its cache.
func (l *loaded) offline() {
	l.Helper()
	c := client(l.behind)
	defer c.CloseIdleConnections()
	l.within(10*time.Second, func() error {
		_, head, err := ask(c, l.address+"/api/v1/nodes/"+l.node.Name, protobufList)
		if err == nil && head.Get("Holdfast-Cache-Age") == "" {
			err = fmt.Errorf("the node is not offline")
		}
		return err
	})
}

// populate makes what a full node reads: pods bound to it with the status that a kubelet gives them, and Secrets and ConfigMaps which the
// pods name, because a node may read no others.
func (l *loaded) populate(pods, secrets, configMaps int) {
	l.Helper()
	l.create("/api/v1/namespaces", object{"kind": "Namespace", "metadata": object{"name": loadSpace}})
	l.create("/api/v1/namespaces/"+loadSpace+"/serviceaccounts", object{"kind": "ServiceAccount", "metadata": object{"name": "default"}})
	l.each(secrets, func(i int) {
		l.create("/api/v1/namespaces/"+loadSpace+"/secrets", secret(i))
	})
	l.each(configMaps, func(i int) {
		l.create("/api/v1/namespaces/"+loadSpace+"/configmaps", object{"kind": "ConfigMap", "metadata": object{"name": fmt.Sprint("config-", i)},
			"data": object{"settings": strings.Repeat("level = info\n", 60)}})
	})
	l.each(pods, func(i int) {
		l.create("/api/v1/namespaces/"+loadSpace+"/pods", loadPod(l.node.Name, i, pods, secrets, configMaps))
		if i >= loadPods {
			return // there are many to have a long list, not to have them all alike
		}
		path := fmt.Sprintf("/api/v1/namespaces/%s/pods/pod-%d/status", loadSpace, i)
		l.must(l.lab.Request(l.Context(), http.MethodPatch, path, object{"status": runningStatus(i)}, nil))
	})
}

type object = map[string]any

func (l *loaded) create(path string, o object) {
	l.Helper()
	l.must(l.lab.Request(l.Context(), http.MethodPost, path, o, nil))
}

// each calls f for 0 to n-1, a few at a time.
func (l *loaded) each(n int, f func(int)) {
	l.Helper()
	var wg sync.WaitGroup
	const workers = 4
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n && !l.Failed(); i += workers {
				f(i)
			}
		})
	}
	wg.Wait()
	if l.Failed() {
		l.FailNow()
	}
}

// secret is a Secret of 2 KiB.
func secret(i int) object {
	return object{"kind": "Secret", "metadata": object{"name": fmt.Sprint("secret-", i)},
		"stringData": object{"key": strings.Repeat(strconv.Itoa(i%10), 1<<11)}}
}

// loadPod is a pod as a Deployment makes them. All pods together name all Secrets and ConfigMaps.
func loadPod(node string, i, pods, secrets, configMaps int) object {
	var volumes, mounts []object
	for _, v := range []struct {
		kind string
		n    int
	}{{"secret", secrets}, {"config", configMaps}} {
		for k := i; k < v.n; k += pods {
			name := fmt.Sprint(v.kind, "-", k)
			source := object{"name": name, "configMap": object{"name": name}}
			if v.kind == "secret" {
				source = object{"name": name, "secret": object{"secretName": name}}
			}
			volumes = append(volumes, source)
			mounts = append(mounts, object{"name": name, "mountPath": "/" + name})
		}
	}
	probe := object{"httpGet": object{"path": "/healthz", "port": 8080}}
	return object{
		"kind": "Pod",
		"metadata": object{"name": fmt.Sprint("pod-", i), "labels": object{"app": fmt.Sprint("app-", i%20), "pod-template-hash": "7c9d8b6f5"},
			"annotations": object{"prometheus.io/scrape": "true", "checksum/config": strings.Repeat("a", 64)}},
		"spec": object{
			"nodeName": node, "automountServiceAccountToken": false, "volumes": volumes,
			"containers": []object{{
				"name": "app", "image": "registry.example.com/shop/app@sha256:" + strings.Repeat("b", 64), "volumeMounts": mounts,
				"env":       []object{{"name": "LEVEL", "value": "info"}, {"name": "NODE", "valueFrom": object{"fieldRef": object{"fieldPath": "spec.nodeName"}}}},
				"resources": object{"requests": object{"cpu": "10m", "memory": "16Mi"}, "limits": object{"memory": "64Mi"}},
				"ports":     []object{{"containerPort": 8080, "name": "http"}}, "livenessProbe": probe, "readinessProbe": probe,
			}},
		},
	}
}

// runningStatus is what a kubelet says of a pod that runs.
func runningStatus(i int) object {
	now := time.Now().UTC().Format(time.RFC3339)
	var conditions []object
	for _, typ := range []string{"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"} {
		conditions = append(conditions, object{"type": typ, "status": "True", "lastTransitionTime": now})
	}
	address := fmt.Sprintf("10.244.1.%d", i%250+2)
	return object{
		"phase": "Running", "conditions": conditions, "hostIP": "192.0.2.10", "podIP": address, "startTime": now, "qosClass": "Burstable",
		"podIPs": []object{{"ip": address}}, "hostIPs": []object{{"ip": "192.0.2.10"}},
		"containerStatuses": []object{{
			"name": "app", "ready": true, "started": true, "restartCount": 0, "image": "registry.example.com/shop/app:1",
			"imageID": "registry.example.com/shop/app@sha256:" + strings.Repeat("b", 64), "containerID": "containerd://" + strings.Repeat("c", 64),
			"state": object{"running": object{"startedAt": now}},
		}},
	}
}

// query is what a watch is for.
type query struct{ path, fields string }

// url gives the list's, or the watch's from a version on.
func (q query) url(base, from string) string {
	v := url.Values{}
	if q.fields != "" {
		v.Set("fieldSelector", q.fields)
	}
	if from == "" {
		v.Set("resourceVersion", "0")
	} else {
		v.Set("resourceVersion", from)
		v.Set("watch", "true")
		v.Set("allowWatchBookmarks", "true")
		v.Set("timeoutSeconds", "3600")
	}
	return base + q.path + "?" + v.Encode()
}

// kubeletQueries are what the kubelet of a full node watches.
func (l *loaded) kubeletQueries(secrets, configMaps int) []query {
	out := []query{
		{"/api/v1/nodes", "metadata.name=" + l.node.Name}, {"/api/v1/pods", "spec.nodeName=" + l.node.Name},
		{"/api/v1/services", ""}, {"/apis/storage.k8s.io/v1/csidrivers", ""}, {"/apis/node.k8s.io/v1/runtimeclasses", ""},
	}
	for i := range secrets {
		out = append(out, query{"/api/v1/namespaces/" + loadSpace + "/secrets", fmt.Sprint("metadata.name=secret-", i)})
	}
	for i := range configMaps {
		out = append(out, query{"/api/v1/namespaces/" + loadSpace + "/configmaps", fmt.Sprint("metadata.name=config-", i)})
	}
	return out
}

// cpuTime gives the processor time that a process has used so far, in seconds.
func cpuTime(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(raw), ") ") // the name before may hold anything
	fields := strings.Fields(rest)
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	const perSecond = 100 // USER_HZ
	return (user + system) / perSecond, errors.Join(err1, err2)
}

// figures reads a process's figures, as "RssAnon: 1234 kB", from /proc.
func figures(pid int, file string) (map[string]float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(raw)) {
		name, rest, _ := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			continue
		}
		if value, err := strconv.ParseFloat(fields[0], 64); err == nil {
			out[name] = value
		}
	}
	return out, nil
}
