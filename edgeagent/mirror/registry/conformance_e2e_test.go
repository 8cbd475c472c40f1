//go:build e2e

package registry_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// TestConformance runs the conformance program of the OCI distribution specification. What it pushes goes to Debian's docker-registry,
// what it reads comes from the mirror in front of it.
func TestConformance(t *testing.T) {
	program := filepath.Join(t.TempDir(), "conformance")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", program, "github.com/opencontainers/distribution-spec/conformance")
	build.Dir = filepath.Join("..", "..", "..", "test", "conformance")
	build.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the conformance program: %v\n%s", err, out)
	}
	remote := &remote{address: startRegistry(t), referring: map[oci.Digest][]oci.Descriptor{}, refused: map[string][]byte{}}
	server := httptest.NewServer(remote.split(newSite(remote).handler(t)))
	defer server.Close()

	results := t.TempDir()
	run := exec.CommandContext(t.Context(), program)
	run.Dir = results
	run.Env = append(os.Environ(), "OCI_REGISTRY="+strings.TrimPrefix(server.URL, "http://"), "OCI_TLS=disabled", "OCI_RESULTS_DIR="+results,
		"OCI_REPO1=conformance/one", "OCI_REPO2=conformance/two", "OCI_VERSION=1.1",
		"OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_DIGEST_HEADER=true",
		// Deleting is none of the mirror's: it keeps what it was given.
		"OCI_API_BLOBS_DELETE=false", "OCI_API_MANIFESTS_DELETE=false", "OCI_API_TAGS_DELETE=false")
	out, err := run.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatalf("run the conformance program: %v", err)
	}
	judge(t, filepath.Join(results, "junit.xml"), out)
}

// reads are the tests of the pull and content-discovery categories, by how their names end; so many of each there are at least.
var reads = map[string]int{
	"/blob-get": 80, "/blob-head": 80, "/pull/manifest-by-tag": 15, "/pull/manifest-by-digest": 30,
	"/head/manifest-head-by-tag": 15, "/head/manifest-head-by-digest": 30, "/tag-list": 15, "/referrers": 4, "/range requests/range": 6,
	"/get-missing": 2, "/missing-manifest/by-tag": 1, "/missing-manifest/by-digest": 1, "/invalid-digest-format/manifest-get": 1,
	"/empty/tag list": 1, "/ping": 1,
}

// judge reads the report. What reads must pass; what pushes and deletes is docker-registry's.
func judge(t *testing.T, path string, out []byte) {
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var report struct {
		Cases []struct {
			Name   string `xml:"name,attr"`
			Status string `xml:"status,attr"`
			Why    string `xml:"system-out"`
		} `xml:"testsuite>testcase"`
	}
	if err := xml.Unmarshal(raw, &report); err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	passed, others := map[string]int{}, map[string]int{}
	for _, c := range report.Cases {
		read := ""
		for name := range reads {
			if strings.HasSuffix(c.Name, name) || name == "/range requests/range" && strings.Contains(c.Name, name) {
				read = name
			}
		}
		switch {
		case read == "":
			others[c.Status]++
			if c.Status != "passed" && c.Status != "skipped" {
				t.Logf("not the mirror's: %s: %.200s", c.Name, c.Why)
			}
		case c.Status != "passed":
			t.Errorf("%s: %s: %s", c.Status, c.Name, c.Why)
		default:
			passed[read]++
		}
	}
	for name, least := range reads {
		if passed[name] < least {
			t.Errorf("%d tests of …%s passed, want %d: did the program run them?", passed[name], name, least)
		}
	}
	t.Logf("passed of what reads: %v; of what pushes or deletes: %v", passed, others)
}

// remote is Debian's docker-registry as a source, and as a target for pushes. That one is older than parts of the specification: it
// knows no referrers, no manifests by sha512 and no layers elsewhere. What it refuses of these is kept here in its stead.
type remote struct {
	address   string
	mu        sync.Mutex // guards what follows
	referring map[oci.Digest][]oci.Descriptor
	refused   map[string][]byte // manifests, by repository and tag or digest
}

// split sends what reads to the mirror, and the rest to the registry.
func (r *remote) split(mirror http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet || req.Method == http.MethodHead {
			query := req.URL.Query()
			query.Set("ns", "reg.example")
			req.URL.RawQuery = query.Encode()
			mirror.ServeHTTP(w, req)
			return
		}
		r.push(w, req)
	})
}

func (r *remote) push(w http.ResponseWriter, req *http.Request) {
	raw, _ := io.ReadAll(req.Body)
	req.Body = io.NopCloser(bytes.NewReader(raw))
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: r.address})
			p.Out.Host = p.In.Host // what the registry answers leads back here
		},
		ModifyResponse: func(resp *http.Response) error {
			if digest := req.URL.Query().Get("digest"); resp.StatusCode == http.StatusCreated && digest != "" {
				resp.Header.Set("Docker-Content-Digest", digest) // it says sha256 of whatever it was given
			}
			name, found := strings.CutPrefix(req.URL.Path, "/v2/")
			if repository, reference, isManifest := strings.Cut(name, "/manifests/"); found && isManifest && req.Method == http.MethodPut {
				return r.pushed(resp, repository, reference, raw)
			}
			return nil
		},
	}
	proxy.ServeHTTP(w, req)
}

// pushed does for a manifest what the registry is too old for.
func (r *remote) pushed(resp *http.Response, repository, reference string, raw []byte) error {
	m, err := oci.ParseManifest(resp.Request.Header.Get("Content-Type"), raw)
	if err != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if digest, err := oci.ParseDigest(reference); resp.StatusCode != http.StatusCreated && (err == nil && digest.Algorithm().FromBytes(raw) == digest || err != nil && oci.CheckTag(reference) == nil) {
		r.refused[repository+" "+reference] = raw
		resp.StatusCode, resp.Body, resp.ContentLength = http.StatusCreated, http.NoBody, 0
		resp.Header = http.Header{"Location": {"/v2/" + repository + "/manifests/" + reference}}
	}
	if m.Subject != nil && resp.StatusCode == http.StatusCreated {
		resp.Header.Set("OCI-Subject", m.Subject.Digest.String())
		r.referring[m.Subject.Digest] = append(r.referring[m.Subject.Digest], oci.Descriptor{
			MediaType: m.MediaType, Digest: oci.SHA256.FromBytes(raw), Size: int64(len(raw)), ArtifactType: m.Type(), Annotations: m.Annotations,
		})
	}
	return nil
}

func (r *remote) get(ref oci.Reference, path string) (http.Header, []byte, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+r.address+"/v2/"+ref.Repository+path, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header["Accept"] = oci.ManifestTypes()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return nil, nil, err
	case resp.StatusCode == http.StatusNotFound:
		return nil, nil, fail(upstream.NotFound)
	case resp.StatusCode != http.StatusOK:
		return nil, nil, &upstream.Error{Kind: upstream.Unexpected, Err: errors.New(resp.Status)}
	}
	return resp.Header, raw, nil
}

func (r *remote) manifest(ref oci.Reference, _ upstream.Credential) (string, []byte, error) {
	r.mu.Lock()
	raw, ok := r.refused[ref.Repository+" "+ref.Target()]
	r.mu.Unlock()
	if ok {
		m, err := oci.ParseManifest("", raw)
		return m.MediaType, raw, err
	}
	header, raw, err := r.get(ref, "/manifests/"+ref.Target())
	return header.Get("Content-Type"), raw, err
}

func (r *remote) blob(ref oci.Reference, _ upstream.Credential) ([]byte, error) {
	_, raw, err := r.get(ref, "/blobs/"+ref.Target())
	return raw, err
}

func (r *remote) tags(ref oci.Reference, _ upstream.Credential) ([]string, error) {
	_, raw, err := r.get(ref, "/tags/list")
	if err != nil {
		return nil, err
	}
	var list struct{ Tags []string }
	err = json.Unmarshal(raw, &list)
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.refused {
		if repository, tag, _ := strings.Cut(name, " "); repository == ref.Repository && !strings.Contains(tag, ":") {
			list.Tags = append(list.Tags, tag)
		}
	}
	return list.Tags, err
}

func (r *remote) referrers(ref oci.Reference, _ upstream.Credential) ([]oci.Descriptor, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.referring[ref.Digest], nil
}

// startRegistry starts Debian's docker-registry with a folder of its own, and gives its address.
func startRegistry(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Fatal("docker-registry is missing: run `make deps` (Debian package docker-registry)")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\nhttp: {addr: '127.0.0.1:0'}\n", filepath.Join(dir, "data"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "serve", config)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if _, rest, found := strings.Cut(lines.Text(), "listening on "); found {
				address <- strings.TrimRight(strings.Fields(rest)[0], `"`)
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		cmd.Wait()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	select {
	case a := <-address:
		return a
	case <-ended:
		t.Fatal("docker-registry ended")
	case <-ctx.Done():
		t.Fatal("docker-registry does not say where it listens")
	}
	return ""
}
