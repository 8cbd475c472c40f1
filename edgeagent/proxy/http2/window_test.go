package http2_test

import (
	"net/http"
	"testing"

	frames "golang.org/x/net/http2"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/http2"
)

// TestWindowBelowZero: a client that makes all windows smaller than what it was sent already still gets the end of an answer, which
// needs no window.
func TestWindowBelowZero(t *testing.T) {
	end := make(chan struct{})
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("an event"))
		w.(http.Flusher).Flush()
		<-end
	}, http2.Config{}, false)
	p := dial(t, s)
	p.ask(1, "/", true)
	p.until("the event", func(f frames.Frame) bool { _, ok := f.(*frames.DataFrame); return ok })
	p.WriteSettings(frames.Setting{ID: frames.SettingInitialWindowSize, Val: 0})
	p.until("the acknowledgement", func(f frames.Frame) bool { s, ok := f.(*frames.SettingsFrame); return ok && s.IsAck() })
	close(end)
	p.answered(1)
}
