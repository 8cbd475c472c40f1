package fetch

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/blob"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// The test runs itself again as a child that fetches, and that it kills.
const (
	childDir    = "HOLDFAST_TEST_FETCH_DIR"
	childHost   = "HOLDFAST_TEST_FETCH_HOST"
	childCA     = "HOLDFAST_TEST_FETCH_CA"
	childDigest = "HOLDFAST_TEST_FETCH_DIGEST"
	childMany   = "HOLDFAST_TEST_FETCH_MANY"
)

// maybeChild is the child's main.
func maybeChild() bool {
	dir := os.Getenv(childDir)
	if dir == "" {
		return false
	}
	err := func() error {
		store, err := blob.Open(dir, blob.Options{})
		if err != nil {
			return err
		}
		ca := x509.NewCertPool()
		ca.AppendCertsFromPEM([]byte(os.Getenv(childCA)))
		log := slog.New(slog.DiscardHandler)
		r, err := upstream.New(upstream.Config{Name: "registry.test", Host: os.Getenv(childHost), CA: ca, Log: log, Connect: time.Minute})
		if err != nil {
			return err
		}
		f := New(Config{Store: store, Log: log})
		if paths := os.Getenv(childMany); paths != "" {
			return fetchMany(f, Registry(r), strings.Fields(paths))
		}
		digest, err := oci.ParseDigest(os.Getenv(childDigest))
		if err != nil {
			return err
		}
		return f.Await(context.Background(), Want{Repository: "team/app", Digest: digest, Size: -1}, Registry(r))
	}()
	fmt.Println("child:", err)
	return true
}

// fetchMany fetches blobs at once, each with a client that reads it as it comes, and says what that took of memory.
func fetchMany(f *Fetcher, source Source, digests []string) error {
	before := anonymous()
	errs := make(chan error, len(digests))
	for _, text := range digests {
		digest, err := oci.ParseDigest(text)
		if err != nil {
			return err
		}
		go func() {
			b, err := f.Blob(context.Background(), Want{Repository: "team/app", Digest: digest, Size: -1}, source)
			if err != nil {
				errs <- err
				return
			}
			r, err := b.Open(context.Background(), 0)
			if err == nil {
				_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, buffer))
			}
			errs <- err
		}()
	}
	most, tick := before, time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for left := len(digests); left > 0; {
		select {
		case err := <-errs:
			if left--; err != nil {
				return err
			}
		case <-tick.C:
			most = max(most, anonymous())
		}
	}
	fmt.Println("anonymous", before, most)
	return nil
}

// anonymous is the process's anonymous memory in kB.
func anonymous() (kB int) {
	raw, _ := os.ReadFile("/proc/self/status")
	_, after, _ := strings.Cut(string(raw), "RssAnon:")
	fmt.Sscan(after, &kB)
	return kB
}

// paced is a registry of one blob that says how much of it it sent, and stops at a mark.
type paced struct {
	data []byte
	mark int
	gets atomic.Int32
	sent atomic.Int64
	held chan struct{} // closed when it stops at the mark
	on   chan struct{} // closed when it goes on
}

func (p *paced) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.gets.Add(1)
	from := 0
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(p.data)-1, len(p.data)))
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(p.data)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	send := func(part []byte) {
		n, _ := io.Copy(w, bytes.NewReader(part))
		p.sent.Add(n)
	}
	if p.mark > from {
		send(p.data[from:p.mark])
		w.(http.Flusher).Flush()
		close(p.held)
		select {
		case <-p.on:
		case <-r.Context().Done():
			return
		}
		from = p.mark
	}
	send(p.data[from:])
}

func client(t *testing.T, server *httptest.Server, handler http.Handler) *upstream.Registry {
	t.Helper()
	server.Config.Handler = handler
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := x509.NewCertPool()
	ca.AddCert(server.Certificate())
	r, err := upstream.New(upstream.Config{Name: "registry.test", Host: server.Listener.Addr().String(), CA: ca, Log: slog.New(slog.DiscardHandler),
		Connect: time.Minute}) // however busy the machine is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// TestKilledAt90Percent is the promise of at most 11 % of the bytes again.
func TestKilledAt90Percent(t *testing.T) {
	data := stuff(40 << 20)
	p := &paced{data: data, mark: len(data) / 10 * 9, held: make(chan struct{}), on: make(chan struct{})}
	server := httptest.NewUnstartedServer(nil)
	r := client(t, server, p)
	digest, dir := oci.SHA256.FromBytes(data), t.TempDir()

	child := exec.CommandContext(t.Context(), os.Args[0])
	var out bytes.Buffer
	child.Stdout, child.Stderr = &out, &out
	child.Env = append(os.Environ(), childDir+"="+dir, childHost+"="+server.Listener.Addr().String(), childDigest+"="+digest.String(),
		childCA+"="+certificatePEM(server))
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.held:
	case <-time.After(time.Minute):
		child.Process.Kill()
		child.Wait()
		t.Fatalf("the child did not get there: %s", out.String())
	}
	eventually(t, "the child has written what was sent", func() bool {
		info, err := os.Stat(dir + "/partial/sha256-" + digest.Hex())
		return err == nil && info.Size() >= int64(p.mark)
	})
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait() // it was killed, and says so
	eventually(t, "the registry noticed", func() bool { return p.sent.Load() == int64(p.mark) })

	p.mark = 0
	p.sent.Store(0)
	f := fetcher(t, openStore(t, dir, blob.Budget{}))
	want := wantOf(data)
	want.Size = -1
	if err := f.Await(t.Context(), want, Registry(r)); err != nil {
		t.Fatal(err)
	}
	again := float64(p.sent.Load()) / float64(len(data))
	t.Logf("after kill -9 at 90 %%: %.1f %% of the bytes were sent again", 100*again)
	if again > 0.11 {
		t.Errorf("%.1f %% of the bytes were sent again, want at most 11 %%", 100*again)
	}
	mustRead(t, f, data)
}

// TestOneGET: 20 clients, a real registry, one request.
func TestOneGET(t *testing.T) {
	data := stuff(1 << 20)
	p := &paced{data: data, mark: len(data) / 2, held: make(chan struct{}), on: make(chan struct{})}
	r := client(t, httptest.NewUnstartedServer(nil), p)
	f := newFetcher(t)
	results := make(chan error, 20)
	for range 20 {
		go func() {
			got, err := read(t.Context(), f, wantOf(data), RegistryAs(r, upstream.Credential{}))
			if err == nil && !bytes.Equal(got, data) {
				err = fmt.Errorf("other bytes")
			}
			results <- err
		}()
	}
	<-p.held
	close(p.on)
	for range 20 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if n := p.gets.Load(); n != 1 {
		t.Errorf("20 clients made %d requests to the registry, want 1", n)
	}
}

// TestRegistrySource: manifests are asked for where registries keep them, and whoever asks is told apart.
func TestRegistrySource(t *testing.T) {
	raw := manifestOf([]byte("layer"))
	want := wantOf(raw)
	r := client(t, httptest.NewUnstartedServer(nil), http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		user, _, _ := req.BasicAuth()
		switch {
		case user != "ann":
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasSuffix(req.URL.Path, "/team/app/manifests/"+want.Digest.String()):
			w.Header().Set("Content-Type", oci.MediaTypeManifest)
			w.Write(raw)
		default:
			http.NotFound(w, req)
		}
	}))
	f, ann := newFetcher(t), upstream.Credential{Username: "ann", Password: "x"}
	_, err := f.Manifest(t.Context(), want, Registry(r))
	wantKind(t, err, upstream.Unauthorized)
	_, err = f.Manifest(t.Context(), want, RegistryAs(r, upstream.Credential{}))
	wantKind(t, err, upstream.Unauthorized)
	short := want
	short.Size--
	_, err = f.Manifest(t.Context(), short, RegistryAs(r, ann))
	wantKind(t, err, upstream.ErrorPage)
	if m, err := f.Manifest(t.Context(), want, RegistryAs(r, ann)); err != nil || !m.Proved {
		t.Errorf("got %+v, %v", m, err)
	}
	_, err = f.Blob(t.Context(), wantOf([]byte("layer")), RegistryAs(r, ann))
	wantKind(t, err, upstream.NotFound)
	if RegistryAs(r, ann) != RegistryAs(r, ann) || RegistryAs(r, ann) == Registry(r) || RegistryAs(r, ann).Name() != "registry.test" {
		t.Error("sources do not compare as they should")
	}
}

func certificatePEM(server *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}
