//go:build e2e

package images_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/policy/images"
)

const accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json"

// registry is Debian's docker-registry, which has no referrers API, and optionally something before it that has.
type registry struct {
	t    *testing.T
	host string
	repo string
	// parents are what a mirror would remember: which index lists which image.
	parents map[string][]string
	// record, if set, is told of everything that was read.
	record func(kind, name string, data []byte)
}

// startRegistry starts an empty registry that ends with the test.
func startRegistry(t *testing.T, referrersAPI bool) *registry {
	t.Helper()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Fatal("docker-registry is not installed: run `make deps`")
	}
	dir := t.TempDir()
	config := encode(object{ // JSON is YAML
		"version": "0.1", "log": object{"level": "info", "accesslog": object{"disabled": true}},
		"storage": object{"filesystem": object{"rootdirectory": dir}}, "http": object{"addr": "127.0.0.1:0"},
	})
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", file)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	r := &registry{t: t, host: listening(t, stderr), repo: "app/api", parents: map[string][]string{}}
	if referrersAPI {
		r.host = withReferrers(t, r.host)
	}
	return r
}

// listening reads a registry's log until it says where it listens, and goes on reading so that it never waits.
func listening(t *testing.T, log io.Reader) string {
	t.Helper()
	found := make(chan string, 1)
	go func() {
		where := regexp.MustCompile(`listening on (127\.0\.0\.1:[0-9]+)`)
		lines := bufio.NewScanner(log)
		for lines.Scan() {
			if m := where.FindStringSubmatch(lines.Text()); m != nil {
				found <- m[1]
			}
		}
		close(found)
	}()
	select {
	case host := <-found:
		if host == "" {
			t.Fatal("docker-registry ended before it listened")
		}
		return host
	case <-time.After(30 * time.Second):
		t.Fatal("docker-registry does not listen after 30 s")
	}
	return ""
}

// withReferrers puts the referrers API before a registry: it lists the manifests that were pushed with a subject.
func withReferrers(t *testing.T, host string) string {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
	proxy.ErrorLog = nil
	var mu sync.Mutex // guards refer
	refer := map[string][]object{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if _, digest, ok := strings.Cut(req.URL.Path, "/referrers/"); ok {
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			_, _ = w.Write(encode(object{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": append([]object{}, refer[digest]...)}))
			return
		}
		if req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/manifests/") {
			data, err := io.ReadAll(req.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			req.Body = io.NopCloser(bytes.NewReader(data))
			var m struct {
				MediaType, ArtifactType string
				Subject                 *struct{ Digest string }
			}
			if json.Unmarshal(data, &m) == nil && m.Subject != nil {
				refer[m.Subject.Digest] = append(refer[m.Subject.Digest], object{"mediaType": m.MediaType, "digest": digestOf(data), "size": len(data), "artifactType": m.ArtifactType})
			}
		}
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// send sends a request and gives the answer, which must have one of the codes.
func (r *registry) send(method, path, contentType string, body []byte, codes ...int) (*http.Response, []byte) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, "http://"+r.host+path, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, code := range codes {
		if resp.StatusCode == code {
			return resp, answer
		}
	}
	r.t.Fatalf("%s %s: %s\n%s", method, path, resp.Status, answer)
	return nil, nil
}

func (r *registry) pushBlob(data []byte) object {
	r.t.Helper()
	resp, _ := r.send(http.MethodPost, "/v2/"+r.repo+"/blobs/uploads/", "", nil, http.StatusAccepted)
	location, err := resp.Location()
	if err != nil {
		r.t.Fatal(err)
	}
	query := location.Query()
	query.Set("digest", digestOf(data))
	r.send(http.MethodPut, location.Path+"?"+query.Encode(), "application/octet-stream", data, http.StatusCreated)
	return object{"digest": digestOf(data), "size": len(data)}
}

// pushImage pushes an image of one layer and gives its digest.
func (r *registry) pushImage(content string) string {
	r.t.Helper()
	config := r.pushBlob(encode(object{"architecture": "amd64", "os": "linux", "rootfs": object{"type": "layers", "diff_ids": []string{}}, "author": content}))
	config["mediaType"] = "application/vnd.oci.image.config.v1+json"
	layer := r.pushBlob([]byte(content))
	layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
	return r.pushManifest("application/vnd.oci.image.manifest.v1+json", object{"config": config, "layers": []object{layer}})
}

// pushIndex pushes an index of images and gives its digest.
func (r *registry) pushIndex(children ...string) string {
	r.t.Helper()
	var list []object
	for _, child := range children {
		_, data := r.send(http.MethodGet, "/v2/"+r.repo+"/manifests/"+child, "", nil, http.StatusOK)
		list = append(list, object{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": child, "size": len(data), "platform": object{"architecture": "amd64", "os": "linux"}})
	}
	parent := r.pushManifest("application/vnd.oci.image.index.v1+json", object{"manifests": list})
	for _, child := range children {
		r.parents[child] = append(r.parents[child], parent)
	}
	return parent
}

func (r *registry) pushManifest(mediaType string, m object) string {
	r.t.Helper()
	m["schemaVersion"], m["mediaType"] = 2, mediaType
	data := encode(m)
	r.send(http.MethodPut, "/v2/"+r.repo+"/manifests/"+digestOf(data), mediaType, data, http.StatusCreated)
	return digestOf(data)
}

// get reads from the registry as a mirror that fetches signatures does.
func (r *registry) get(ctx context.Context, kind, repo, name string, limit int64) ([]byte, error) {
	_, path, _ := strings.Cut(repo, "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.host+"/v2/"+path+"/"+kind+"/"+name, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound:
		return nil, images.ErrNotStored
	case http.StatusOK:
		data, err := io.ReadAll(io.LimitReader(resp.Body, limit))
		if err == nil && r.record != nil {
			r.record(kind, name, data)
		}
		return data, err
	}
	return nil, fmt.Errorf("get %s: %s", req.URL, resp.Status)
}

func (r *registry) Manifest(ctx context.Context, repo, reference string, limit int64) ([]byte, error) {
	return r.get(ctx, "manifests", repo, reference, limit)
}

func (r *registry) Blob(ctx context.Context, repo, digest string, limit int64) ([]byte, error) {
	return r.get(ctx, "blobs", repo, digest, limit)
}

func (r *registry) Referrers(ctx context.Context, repo, digest string, limit int64) ([]byte, error) {
	return r.get(ctx, "referrers", repo, digest, limit)
}

func (r *registry) Parents(_ context.Context, _, digest string) ([]string, error) {
	return r.parents[digest], nil
}
