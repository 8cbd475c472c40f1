package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// TestCaller: who calls off gets his own error, and the breaker does not hear of it.
func TestCaller(t *testing.T) {
	why := errors.New("the pod is gone")
	release := make(chan struct{})
	reg, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
			sendManifest(w, r, manifestOf(nil))
		case <-r.Context().Done():
		}
	})
	r := client(t, reg, Config{})
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.Manifest(ctx, "team/app", "v1")
		done <- err
	}()
	deadline := time.Now().Add(10 * time.Second)
	for len(requests.all()) == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	cancel(why)
	if err := <-done; !errors.Is(err, why) {
		t.Errorf("got %v, want the caller's reason", err)
	}
	close(release)
	if err := getManifest(r); err != nil {
		t.Error(err)
	}
}

func TestBodyEndsWithItsCaller(t *testing.T) {
	reg, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, 1000))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // no proper end, which could overtake the client's own
	})
	ctx, cancel := context.WithCancel(t.Context())
	b, err := client(t, reg, Config{}).Blob(ctx, "team/app", oci.SHA256.FromBytes(nil), -1, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Body.Close()
	if _, err := io.ReadFull(b.Body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := b.Body.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the caller's", err)
	}
}
