package http2_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/http2"
)

// TestNghttp: clients that share no code with Go's get their answers.
func TestNghttp(t *testing.T) {
	for _, program := range []string{"nghttp", "h2load"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("nghttp and h2load are not here; make deps installs them (Debian's nghttp2-client)")
		}
	}
	upload := filepath.Join(t.TempDir(), "upload")
	if err := os.WriteFile(upload, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T, cfg http2.Config) {
		s := start(t, func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%d bytes\n%s", n, strings.Repeat("x", 50_000))
		}, cfg, false)
		out, err := exec.CommandContext(t.Context(), "nghttp", "--no-verify-peer", "--data", upload, s.URL).CombinedOutput()
		if err != nil || !strings.Contains(string(out), fmt.Sprint(3<<20, " bytes\n")) || len(out) < 50_000 {
			t.Errorf("nghttp: %v: %.300s", err, out)
		}
		out, err = exec.CommandContext(t.Context(), "h2load", "--requests", "2000", "--clients", "4", "--max-concurrent-streams", "25", s.URL).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "2000 succeeded, 0 failed, 0 errored") {
			t.Errorf("h2load: %v\n%s", err, out)
		}
	})
}
