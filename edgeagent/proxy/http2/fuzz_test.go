package http2

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	frames "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// pipe is a transport without TLS.
type pipe struct{ net.Conn }

func (p pipe) CloseWrite() error { return p.Close() }

// FuzzFrames feeds a connection with anything after the preface. It must end, with all its handlers, and hold no more than it may.
func FuzzFrames(f *testing.F) {
	seed := func(write func(f *frames.Framer)) {
		var b bytes.Buffer
		fr := frames.NewFramer(&b, nil)
		fr.AllowIllegalWrites = true
		fr.WriteSettings()
		write(fr)
		f.Add(b.Bytes())
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, p := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", "x"}, {":path", "/"}, {"content-length", "5"}} {
		enc.WriteField(hpack.HeaderField{Name: p[0], Value: p[1]})
	}
	seed(func(f *frames.Framer) {
		f.WriteHeaders(frames.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
		f.WriteData(1, true, []byte("hello"))
		f.WriteWindowUpdate(0, 1000)
		f.WritePing(false, [8]byte{})
	})
	seed(func(f *frames.Framer) {
		f.WriteHeaders(frames.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes()[:4], PadLength: 3})
		f.WriteContinuation(1, true, block.Bytes()[4:])
		f.WriteRSTStream(1, frames.ErrCodeCancel)
		f.WriteData(1, false, []byte("late"))
		f.WriteGoAway(0, frames.ErrCodeNo, nil)
	})
	seed(func(f *frames.Framer) {
		f.WriteSettings(frames.Setting{ID: frames.SettingInitialWindowSize, Val: 0}, frames.Setting{ID: frames.SettingHeaderTableSize, Val: 0})
		f.WriteHeaders(frames.HeadersFrameParam{StreamID: 3, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
		f.WriteWindowUpdate(3, 1<<31-1)
		f.WritePriority(3, frames.PriorityParam{StreamDep: 3})
		f.WriteHeaders(frames.HeadersFrameParam{StreamID: 3, BlockFragment: []byte{0x82, 0xbe}, EndHeaders: true, EndStream: true})
	})
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, brief := range []bool{false, true} {
			feed(t, in, brief)
		}
	})
}

func feed(t *testing.T, in []byte, brief bool) {
	cfg := Config{MaxStreams: 10, StreamWindow: 1 << 16, ConnWindow: 1 << 17, WriteTimeout: 5 * time.Second, Brief: func(*http.Request) bool { return brief }}.withDefaults()
	s := &server{cfg: cfg, conns: map[*conn]struct{}{}}
	near, far := net.Pipe()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Write(make([]byte, min(n, 1000)+10))
	})
	c := newConn(s, &http.Server{MaxHeaderBytes: 8 << 10}, pipe{near}, nil, handler, context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		c.serve()
	}()
	go io.Copy(io.Discard, far)
	io.WriteString(far, frames.ClientPreface)
	far.Write(in)
	c.mu.Lock()
	for id, st := range c.streams {
		if held := len(st.body.buf); held > cfg.StreamWindow {
			t.Errorf("stream %d holds %d bytes", id, held)
		}
	}
	if len(c.streams) > cfg.MaxStreams || c.handlers > cfg.MaxStreams || len(c.out) > maxOut+2*maxControl {
		t.Errorf("%d streams, %d handlers, %d bytes to write", len(c.streams), c.handlers, len(c.out))
	}
	c.mu.Unlock()
	far.Close()
	select {
	case <-served:
	case <-time.After(20 * time.Second):
		t.Fatal("the connection does not end")
	}
	if len(c.streams) > 0 || c.handlers != 0 || len(c.head.fields) > 8<<10/32 {
		t.Errorf("%d streams, %d handlers and %d headers are left", len(c.streams), c.handlers, len(c.head.fields))
	}
}
