package http2_test

import (
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/http2"
)

// TestSpecification runs h2spec, strict, against a server.
func TestSpecification(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs h2spec")
	}
	program := filepath.Join(t.TempDir(), "h2spec")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/summerwind/h2spec/cmd/h2spec")
	build.Dir = filepath.Join("..", "..", "..", "test", "h2spec")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build h2spec: %v\n%s", err, out)
	}
	for _, brief := range []bool{false, true} {
		s := start(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Write(make([]byte, 10))
		}, http2.Config{
			Brief: func(*http.Request) bool { return brief },
		}, false)
		_, port, err := net.SplitHostPort(s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), program, "--strict", "--tls", "--insecure", "--host", "127.0.0.1", "--port", port, "--timeout", "5").CombinedOutput()
		if err != nil {
			t.Errorf("h2spec: %v\n%s", err, out)
		}
	}
}
