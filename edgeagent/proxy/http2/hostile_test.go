package http2_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	frames "golang.org/x/net/http2"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/http2"
)

// hello answers at once, /wait once the client is gone, /body once the body is read, /endless without end.
func hello(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/wait":
		<-r.Context().Done()
	case "/body":
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintln(w, n, err)
	case "/endless":
		block := make([]byte, 32<<10)
		for {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	default:
		io.WriteString(w, "hello")
	}
}

// flood sends the same bytes again and again, until the server hangs up.
func (p *peer) flood(times int, frame []byte) {
	block := bytes.Repeat(frame, max(1, 16<<10/len(frame)))
	for n := 0; n < times*len(frame); n += len(block) {
		if _, err := p.conn.Write(block); err != nil {
			return
		}
	}
}

// TestFloods: frames that cost a client nothing are taken for so long.
func TestFloods(t *testing.T) {
	s := start(t, hello, http2.Config{}, false)
	for _, test := range []struct {
		name  string
		write func(f *frames.Framer) error
	}{
		{"PING", func(f *frames.Framer) error { return f.WritePing(false, [8]byte{}) }},
		{"PING acknowledged", func(f *frames.Framer) error { return f.WritePing(true, [8]byte{}) }},
		{"SETTINGS", func(f *frames.Framer) error { return f.WriteSettings() }},
		{"SETTINGS of windows", func(f *frames.Framer) error {
			f.WriteSettings(frames.Setting{ID: frames.SettingInitialWindowSize, Val: 1})
			return f.WriteSettings(frames.Setting{ID: frames.SettingInitialWindowSize, Val: 2})
		}},
		{"PRIORITY", func(f *frames.Framer) error { return f.WritePriority(9, frames.PriorityParam{StreamDep: 7}) }},
		{"empty DATA", func(f *frames.Framer) error { return f.WriteData(1, false, nil) }},
		{"DATA of padding", func(f *frames.Framer) error { return f.WriteDataPadded(1, false, nil, nil) }},
		{"RST_STREAM of what is closed", func(f *frames.Framer) error { return f.WriteRSTStream(3, frames.ErrCodeCancel) }},
		{"WINDOW_UPDATE", func(f *frames.Framer) error { return f.WriteWindowUpdate(0, 1) }},
		{"WINDOW_UPDATE of a stream", func(f *frames.Framer) error { return f.WriteWindowUpdate(1, 1) }},
		{"unknown frames", func(f *frames.Framer) error { return f.WriteRawFrame(0x77, 0, 0, nil) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := dial(t, s)
			p.ask(1, "/body", false)
			p.ask(3, "/", true)
			p.answered(3)
			var frame bytes.Buffer
			f := frames.NewFramer(&frame, nil)
			if err := test.write(f); err != nil {
				t.Fatal(err)
			}
			go p.flood(30_000, frame.Bytes())
			p.gone(frames.ErrCodeEnhanceYourCalm)
		})
	}
	t.Run("few are fine", func(t *testing.T) {
		p := dial(t, s)
		for range 1000 {
			p.WritePing(false, [8]byte{})
			p.WriteSettings()
			p.WriteWindowUpdate(0, 1)
		}
		p.ask(1, "/", true)
		p.answered(1)
	})
}

// TestUnread: a client that has a lot answered and reads none of it is hung up on, and costs no memory meanwhile.
func TestUnread(t *testing.T) {
	var running, begun atomic.Int64
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		begun.Add(1)
		running.Add(1)
		defer running.Add(-1)
		hello(w, r)
	}, http2.Config{WriteTimeout: 200 * time.Millisecond}, false)
	p := dial(t, s, frames.Setting{ID: frames.SettingInitialWindowSize, Val: 1<<31 - 1})
	p.WriteWindowUpdate(0, 1<<31-1-65535)
	for id := uint32(1); id < 100; id += 2 {
		p.ask(id, "/endless", true)
	}
	if held := grown(func() {
		eventually(t, "the connection ends", func() bool { return begun.Load() == 50 && running.Load() == 0 })
	}); held > 32<<20 {
		t.Errorf("%d bytes are held", held)
	}
}

// grown tells how much the heap grew.
func grown(f func()) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return int64(after.HeapInuse) - int64(before.HeapInuse)
}

// TestShutWindows: a client that never opens its windows holds up nobody else, and little memory.
func TestShutWindows(t *testing.T) {
	for _, brief := range []bool{false, true} {
		s := start(t, hello, http2.Config{Brief: func(*http.Request) bool { return brief }}, false)
		p := dial(t, s, frames.Setting{ID: frames.SettingInitialWindowSize, Val: 0})
		if held := grown(func() {
			for id := uint32(1); id < 400; id += 2 {
				p.ask(id, "/endless", true)
			}
			heads := 0
			p.until("all are answered", func(f frames.Frame) bool {
				if _, ok := f.(*frames.MetaHeadersFrame); ok {
					heads++
				}
				return heads == 200
			})
		}); held > 32<<20 {
			t.Errorf("brief %v: %d bytes are held", brief, held)
		}
		p.ask(401, "/", true)
		p.WriteWindowUpdate(401, 100)
		p.answered(401)
		p.WriteRSTStream(1, frames.ErrCodeCancel)
		p.WriteWindowUpdate(3, 10)
		p.until("what the window allows", func(f frames.Frame) bool {
			d, ok := f.(*frames.DataFrame)
			return ok && d.StreamID == 3 && len(d.Data()) == 10
		})
	}
}

// TestRapidReset: requests that are taken back at once are not run without bound, and many of them end the connection.
func TestRapidReset(t *testing.T) {
	var running atomic.Int64
	free := make(chan struct{})
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		<-free // a handler does not see at once that nobody waits for it
	}, http2.Config{MaxStreams: 10}, false)
	defer close(free)
	p := dial(t, s)
	go func() {
		for id := uint32(1); id < 20_000; id += 2 {
			p.ask(id, "/", true)
			if p.WriteRSTStream(id, frames.ErrCodeCancel) != nil {
				return
			}
		}
	}()
	p.gone(frames.ErrCodeEnhanceYourCalm)
	if n := running.Load(); n > 10 {
		t.Errorf("%d handlers ran at once", n)
	}
}

// TestTooManyStreams: what is over the limit is refused, and may be sent again.
func TestTooManyStreams(t *testing.T) {
	s := start(t, hello, http2.Config{MaxStreams: 2}, false)
	p := dial(t, s)
	p.ask(1, "/wait", true)
	p.ask(3, "/wait", true)
	p.ask(5, "/", true)
	p.reset(5, frames.ErrCodeRefusedStream)
	p.WriteRSTStream(1, frames.ErrCodeCancel)
	for id := uint32(7); ; id += 2 { // until the handler of 1 has returned
		p.ask(id, "/", true)
		refused := false
		p.until("an answer", func(f frames.Frame) bool {
			_, refused = f.(*frames.RSTStreamFrame)
			d, ok := f.(*frames.DataFrame)
			return refused || ok && d.StreamEnded()
		})
		if !refused {
			break
		}
	}
}

// TestHeaderBombs: headers are bounded however they are sent.
func TestHeaderBombs(t *testing.T) {
	s := start(t, hello, http2.Config{}, false)
	t.Run("CONTINUATION without end", func(t *testing.T) {
		p := dial(t, s)
		block := p.encode(":method", "GET", ":scheme", "https", ":path", "/", "x", strings.Repeat("x", 1000))
		p.WriteHeaders(frames.HeadersFrameParam{StreamID: 1, BlockFragment: block})
		go func() {
			for p.WriteContinuation(1, false, p.encode("y", strings.Repeat("y", 1000))) == nil {
			}
		}()
		p.gone(frames.ErrCodeEnhanceYourCalm)
	})
	t.Run("empty CONTINUATION", func(t *testing.T) {
		p := dial(t, s)
		p.WriteHeaders(frames.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(":method", "GET")})
		go func() {
			for p.WriteContinuation(1, false, nil) == nil {
			}
		}()
		p.gone(frames.ErrCodeEnhanceYourCalm)
	})
	t.Run("one large header, again and again", func(t *testing.T) {
		p := dial(t, s)
		pairs := []string{":method", "GET", ":scheme", "https", ":path", "/", "x", strings.Repeat("x", 3000)}
		for range 1000 {
			pairs = append(pairs, "x", strings.Repeat("x", 3000))
		}
		used := grown(func() {
			p.WriteHeaders(frames.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(pairs...), EndHeaders: true, EndStream: true})
			p.until("431", func(f frames.Frame) bool {
				h, ok := f.(*frames.MetaHeadersFrame)
				return ok && h.PseudoValue("status") == "431"
			})
		})
		if used > 1<<20 {
			t.Errorf("%d bytes are held", used)
		}
		p.answered(1)
		p.ask(3, "/", true) // what was decoded of it still counts
		p.answered(3)
	})
	t.Run("a table as large as can be", func(t *testing.T) {
		p := dial(t, s)
		p.WriteHeaders(frames.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x3f, 0xff, 0xff, 0xff, 0x0f}, EndHeaders: true, EndStream: true})
		p.gone(frames.ErrCodeCompression)
	})
	t.Run("slow headers", func(t *testing.T) {
		slow := start(t, hello, http2.Config{}, false, func(s *http.Server) { s.ReadHeaderTimeout = 100 * time.Millisecond })
		p := dial(t, slow)
		p.WriteHeaders(frames.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(":method", "GET")})
		ended(t, p)
		quiet, err := tls.Dial("tcp", slow.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		defer quiet.Close()
		io.WriteString(quiet, "PRI * ")
		quiet.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, quiet); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Error("half a preface keeps a connection open")
		}
	})
}

// ended reads until the connection ends.
func ended(t *testing.T, p *peer) {
	t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, p.conn); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("the connection goes on")
	}
}

// TestMalformed: what HTTP/2 forbids is refused, and nothing of it reaches a handler.
func TestMalformed(t *testing.T) {
	var seen atomic.Int64
	s := start(t, func(http.ResponseWriter, *http.Request) { seen.Add(1) }, http2.Config{}, false)
	good := []string{":method", "GET", ":scheme", "https", ":authority", "x", ":path", "/"}
	with := func(more ...string) []string { return append(good[:8:8], more...) }
	for _, test := range []struct {
		name  string
		pairs []string
	}{
		{"method with a request in it", []string{":method", "GET / HTTP/1.1", ":scheme", "https", ":authority", "x", ":path", "/"}},
		{"no slash", []string{":method", "GET", ":scheme", "https", ":authority", "x", ":path", "a"}},
		{"space in the path", []string{":method", "GET", ":scheme", "https", ":authority", "x", ":path", "/a HTTP/1.1"}},
		{"bad host", []string{":method", "GET", ":scheme", "https", ":authority", "a b", ":path", "/"}},
		{"other scheme", []string{":method", "GET", ":scheme", "ftp", ":authority", "x", ":path", "/"}},
		{"CONNECT with a path", []string{":method", "CONNECT", ":authority", "x", ":path", "/"}},
		{"extended CONNECT", []string{":method", "CONNECT", ":authority", "x", ":scheme", "https", ":path", "/", ":protocol", "websocket"}},
		{"line end in a value", with("a", "b\r\nc: d")},
		{"space in a name", with("a b", "c")},
		{"two hosts", with("host", "y")},
		{"connection", with("connection", "close")},
		{"transfer-encoding", with("transfer-encoding", "chunked")},
		{"two lengths", with("content-length", "0", "content-length", "1")},
		{"signed length", with("content-length", "+1")},
		{"length without a body", with("content-length", "1")},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := dial(t, s)
			p.WriteHeaders(frames.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(test.pairs...), EndHeaders: true, EndStream: true})
			p.reset(1, frames.ErrCodeProtocol)
			p.ask(3, "/", true)
			p.answered(3)
			if n := seen.Swap(0); n != 1 {
				t.Errorf("%d requests were answered", n)
			}
		})
	}
	for _, test := range []struct {
		name  string
		code  frames.ErrCode
		write func(p *peer)
	}{
		{"padding longer than HEADERS", frames.ErrCodeProtocol, func(p *peer) {
			p.WriteRawFrame(frames.FrameHeaders, frames.FlagHeadersPadded|frames.FlagHeadersEndHeaders, 1, []byte{200, 0})
		}},
		{"padding longer than DATA", frames.ErrCodeProtocol, func(p *peer) {
			p.ask(1, "/", false)
			p.WriteRawFrame(frames.FrameData, frames.FlagDataPadded, 1, []byte{200, 0})
		}},
		{"PUSH_PROMISE", frames.ErrCodeProtocol, func(p *peer) {
			p.WritePushPromise(frames.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: p.encode(":method", "GET"), EndHeaders: true})
		}},
		{"an even stream", frames.ErrCodeProtocol, func(p *peer) { p.ask(2, "/", true) }},
		{"frames longer than allowed", frames.ErrCodeFrameSize, func(p *peer) { p.WriteRawFrame(frames.FrameData, 0, 1, make([]byte, 16<<10+1)) }},
		{"a window of more than 2 GiB", frames.ErrCodeFlowControl, func(p *peer) { p.WriteWindowUpdate(0, 1<<31-1) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := dial(t, s)
			test.write(p)
			p.gone(test.code)
		})
	}
}

// TestTooMuchBody: a client that sends more than windows allow is cut off.
func TestTooMuchBody(t *testing.T) {
	s := start(t, hello, http2.Config{StreamWindow: 70_000, ConnWindow: 100_000}, false)
	p := dial(t, s)
	p.ask(1, "/wait", false)
	for range 5 {
		p.WriteData(1, false, make([]byte, 16<<10))
	}
	p.reset(1, frames.ErrCodeFlowControl)
	for id := uint32(3); id < 7; id += 2 {
		p.ask(id, "/wait", false)
		for range 4 {
			p.WriteData(id, false, make([]byte, 16<<10))
		}
	}
	p.gone(frames.ErrCodeFlowControl)
}

// TestPushAndPriorityAreIgnored: settings that ask for what is not there do no harm.
func TestPushAndPriorityAreIgnored(t *testing.T) {
	s := start(t, hello, http2.Config{}, false)
	p := dial(t, s, frames.Setting{ID: frames.SettingEnablePush, Val: 1}, frames.Setting{ID: frames.SettingHeaderTableSize, Val: 1 << 30})
	p.WritePriority(1, frames.PriorityParam{StreamDep: 0, Weight: 200})
	p.WriteRawFrame(0x10, 0, 0, binary.BigEndian.AppendUint32(nil, 1))
	p.WriteHeaders(frames.HeadersFrameParam{
		StreamID: 1, BlockFragment: p.encode(":method", "GET", ":scheme", "https", ":authority", "x", ":path", "/"), EndHeaders: true, EndStream: true,
		Priority: frames.PriorityParam{StreamDep: 7, Exclusive: true},
	})
	p.answered(1)
}

// TestTakenBackUploads: a body that is taken back ends its handler's reading, and what was not read of it is not counted any more.
func TestTakenBackUploads(t *testing.T) {
	ended := make(chan error, 100)
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/unread" {
			<-r.Context().Done()
			return
		}
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	}, http2.Config{}, false)
	p := dial(t, s)
	id := uint32(1)
	for ; id < 60; id += 2 { // 1.9 MiB, of which the connection holds 1
		p.ask(id, "/unread", false)
		for range 4 {
			p.WriteData(id, false, make([]byte, 16<<10))
		}
		p.WriteRSTStream(id, frames.ErrCodeCancel)
	}
	p.ask(id, "/", false)
	p.WriteData(id, false, []byte("half"))
	p.WriteRSTStream(id, frames.ErrCodeCancel)
	if err := <-ended; err == nil {
		t.Error("half a body looks whole")
	}
	p.ask(id+2, "/", false)
	p.WriteData(id+2, true, []byte("all"))
	if err := <-ended; err != nil {
		t.Error(err)
	}
	p.answered(id + 2)
}
