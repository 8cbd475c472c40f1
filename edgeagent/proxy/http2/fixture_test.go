package http2_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"
	frames "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/http2"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start starts a server. plain: net/http's own.
func start(t testing.TB, handler http.HandlerFunc, cfg http2.Config, plain bool, change ...func(*http.Server)) *httptest.Server {
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{DynamicRecordSizingDisabled: true}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	s.Config.MaxHeaderBytes = 64 << 10
	for _, f := range change {
		f(s.Config)
	}
	if !plain {
		http2.Configure(s.Config, cfg)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func body(t testing.TB, resp *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// peer is a client that does what it wants.
type peer struct {
	*frames.Framer
	t    testing.TB
	conn *tls.Conn
	enc  *hpack.Encoder
	buf  bytes.Buffer
}

// dial connects, and sends the preface and settings.
func dial(t testing.TB, s *httptest.Server, settings ...frames.Setting) *peer {
	conn, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	p := &peer{Framer: frames.NewFramer(conn, conn), t: t, conn: conn}
	p.AllowIllegalWrites = true
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.enc = hpack.NewEncoder(&p.buf)
	io.WriteString(conn, frames.ClientPreface)
	p.WriteSettings(settings...)
	p.WriteSettingsAck()
	return p
}

// encode compresses headers.
func (p *peer) encode(pairs ...string) []byte {
	p.buf.Reset()
	for i := 0; i < len(pairs); i += 2 {
		p.enc.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return p.buf.Bytes()
}

// ask sends a request's headers.
func (p *peer) ask(id uint32, path string, end bool, more ...string) {
	block := p.encode(append([]string{":method", map[bool]string{true: "GET", false: "POST"}[end], ":scheme", "https", ":authority", "x", ":path", path}, more...)...)
	p.WriteHeaders(frames.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: end})
}

// until reads frames until one is as wanted.
func (p *peer) until(what string, ok func(frames.Frame) bool) {
	p.t.Helper()
	for {
		f, err := p.ReadFrame()
		if err != nil {
			p.t.Fatalf("while waiting for %s: %v", what, err)
		}
		if ok(f) {
			return
		}
	}
}

// gone reads until the connection ends, and wants to have been told that it asks too much, or with another code.
func (p *peer) gone(want frames.ErrCode) {
	p.t.Helper()
	p.until("GOAWAY", func(f frames.Frame) bool {
		g, ok := f.(*frames.GoAwayFrame)
		if ok && g.ErrCode != want {
			p.t.Errorf("GOAWAY says %v %s, want %v", g.ErrCode, g.DebugData(), want)
		}
		return ok
	})
	for {
		if _, err := p.ReadFrame(); err != nil {
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				p.t.Error("the connection goes on after GOAWAY")
			}
			return
		}
	}
}

// answered reads until the end of a stream.
func (p *peer) answered(id uint32) {
	p.t.Helper()
	p.until("the end of an answer", func(f frames.Frame) bool {
		switch f := f.(type) {
		case *frames.DataFrame:
			return f.StreamID == id && f.StreamEnded()
		case *frames.MetaHeadersFrame:
			return f.StreamID == id && f.StreamEnded()
		case *frames.GoAwayFrame:
			p.t.Fatalf("GOAWAY %v %s", f.ErrCode, f.DebugData())
		}
		return false
	})
}

// reset reads until a stream is reset.
func (p *peer) reset(id uint32, code frames.ErrCode) {
	p.t.Helper()
	p.until("RST_STREAM", func(f frames.Frame) bool {
		r, ok := f.(*frames.RSTStreamFrame)
		if ok && r.StreamID == id && r.ErrCode != code {
			p.t.Errorf("stream %d was reset with %v, want %v", id, r.ErrCode, code)
		}
		if g, ok := f.(*frames.GoAwayFrame); ok {
			p.t.Fatalf("GOAWAY %v %s", g.ErrCode, g.DebugData())
		}
		return ok && r.StreamID == id
	})
}
