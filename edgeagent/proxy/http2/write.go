package http2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync"
	"time"

	frames "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	frameHeader = 9
	// maxFrame is the longest frame that either end sends. dataFrame makes a frame of DATA fill a TLS record.
	maxFrame, dataFrame = 16 << 10, 16<<10 - frameHeader
	maxWindow           = 1<<31 - 1
	maxStream           = 1<<31 - 1
	firstWindow         = 1<<16 - 1
	tableSize           = 4 << 10
	// maxOut is how much waits to be written before those who have more wait too. maxControl is how much more may wait that the client
	// asked for by control frames: a client that asks and does not read has its connection closed.
	maxOut, maxControl = 64 << 10, 64 << 10
	// maxRounds is how often a goroutine writes what others have added before it goes on with its own work.
	maxRounds = 8
)

// drainPing is the PING that follows GOAWAY: the answer to it comes after all that the client sent before it knew.
var drainPing = [8]byte{'h', 'o', 'l', 'd', 'f', 'a', 's', 't'}

// outs are buffers of what is to be written. A connection has one only while there is something.
var outs = sync.Pool{New: func() any { return new(make([]byte, 0, maxOut)) }}

// writer is what writing a connection takes. It is guarded by conn.mu; only the write itself is done without.
type writer struct {
	out     []byte
	outFrom *[]byte // where out came from
	writing bool    // a goroutine writes
	window  int64   // what may still be sent of bodies
	initial int64   // the window that a stream begins with
	sent    int64   // bytes of bodies
	queue   []*stream
	enc     *hpack.Encoder
	block   bytes.Buffer
}

func (w *writer) init() {
	w.window, w.initial = firstWindow, firstWindow
	w.enc = hpack.NewEncoder(&w.block)
}

// grow makes room for more to be written.
func (w *writer) grow() {
	if w.outFrom == nil {
		w.outFrom = outs.Get().(*[]byte)
		w.out = (*w.outFrom)[:0]
	}
}

func (w *writer) appendFrame(length int, t frames.FrameType, flags frames.Flags, id uint32) {
	w.grow()
	w.out = append(w.out, byte(length>>16), byte(length>>8), byte(length), byte(t), byte(flags))
	w.out = binary.BigEndian.AppendUint32(w.out, id)
}

// greet is what a server begins with.
func (c *conn) greet() {
	settings := [...]frames.Setting{
		{ID: frames.SettingMaxConcurrentStreams, Val: uint32(c.srv.cfg.MaxStreams)},
		{ID: frames.SettingInitialWindowSize, Val: uint32(c.srv.cfg.StreamWindow)},
		{ID: frames.SettingMaxHeaderListSize, Val: uint32(c.maxHeaders())},
	}
	c.appendFrame(6*len(settings), frames.FrameSettings, 0, 0)
	for _, s := range settings {
		c.out = binary.BigEndian.AppendUint16(c.out, uint16(s.ID))
		c.out = binary.BigEndian.AppendUint32(c.out, s.Val)
	}
	c.appendWindowUpdate(0, c.srv.cfg.ConnWindow-firstWindow)
}

func (w *writer) appendSettingsAck() {
	w.appendFrame(0, frames.FrameSettings, frames.FlagSettingsAck, 0)
}

func (w *writer) appendPing(data [8]byte, ack bool) {
	var flags frames.Flags
	if ack {
		flags = frames.FlagPingAck
	}
	w.appendFrame(len(data), frames.FramePing, flags, 0)
	w.out = append(w.out, data[:]...)
}

func (w *writer) appendWindowUpdate(id uint32, n int) {
	if n > 0 {
		w.appendFrame(4, frames.FrameWindowUpdate, 0, id)
		w.out = binary.BigEndian.AppendUint32(w.out, uint32(n))
	}
}

func (w *writer) appendReset(id uint32, code frames.ErrCode) {
	w.appendFrame(4, frames.FrameRSTStream, 0, id)
	w.out = binary.BigEndian.AppendUint32(w.out, uint32(code))
}

func (w *writer) appendGoAway(last uint32, code frames.ErrCode, why string) {
	w.appendFrame(8+len(why), frames.FrameGoAway, 0, 0)
	w.out = binary.BigEndian.AppendUint32(w.out, last)
	w.out = binary.BigEndian.AppendUint32(w.out, uint32(code))
	w.out = append(w.out, why...)
}

func (w *writer) appendContinue(id uint32) { w.appendHeaders(id, 100, nil, false) }

// appendHeaders compresses headers. They are in the order in which they are sent, so the lock is held until they are there.
func (w *writer) appendHeaders(id uint32, status int, fields []hpack.HeaderField, end bool) {
	w.block.Reset()
	code := "200"
	if status != 200 {
		code = strconv.Itoa(status)
	}
	w.enc.WriteField(hpack.HeaderField{Name: ":status", Value: code})
	for _, f := range fields {
		w.enc.WriteField(f)
	}
	block := w.block.Bytes()
	t, flags := frames.FrameHeaders, frames.Flags(0)
	if end {
		flags = frames.FlagHeadersEndStream
	}
	for {
		n := min(len(block), maxFrame)
		if n == len(block) {
			flags |= frames.FlagHeadersEndHeaders
		}
		w.appendFrame(n, t, flags, id)
		w.out = append(w.out, block[:n]...)
		if block = block[n:]; len(block) == 0 {
			break
		}
		t, flags = frames.FrameContinuation, 0
	}
	if w.block.Cap() > maxFrame {
		w.block = bytes.Buffer{}
	}
}

func (w *writer) appendData(id uint32, p []byte, end bool) {
	var flags frames.Flags
	if end {
		flags = frames.FlagDataEndStream
	}
	w.appendFrame(len(p), frames.FrameData, flags, id)
	w.out = append(w.out, p...)
	w.sent += int64(len(p))
}

// bounded ends connections of clients that ask for more than they read.
func (c *conn) bounded() error {
	if len(c.out) > maxOut+maxControl {
		return connError{frames.ErrCodeEnhanceYourCalm, "what was asked for is not read"}
	}
	return nil
}

// room tells whether those who have something to send may add it.
func (c *conn) room() bool { return !c.writing || len(c.out) < maxOut }

// push flushes, unless the stream's goroutine leads and will do it before it reads on. The lock is held.
func (c *conn) push(st *stream) {
	if c.leader == st && len(c.out) < maxOut {
		return
	}
	st.lead() // so that a client that does not read is still heard
	c.flush()
}

// flush writes what there is. If a goroutine writes already it does that, too. The lock is held before and after, not meanwhile.
func (c *conn) flush() {
	if c.writing || len(c.out) == 0 || c.end.err != nil || c.end.hungUp {
		return
	}
	c.writing = true
	for round := 0; len(c.out) > 0 && c.end.err == nil; round++ {
		if round == maxRounds {
			go c.flushOthers()
			return
		}
		c.write()
	}
	c.written()
}

// flushOthers goes on flushing for a goroutine that has other work.
func (c *conn) flushOthers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > 0 && c.end.err == nil {
		c.write()
	}
	c.written()
}

// write writes once. The lock is held before and after.
func (c *conn) write() {
	out, from := c.out, c.outFrom
	c.out, c.outFrom = nil, nil
	c.mu.Unlock()
	c.nc.SetWriteDeadline(time.Now().Add(c.srv.cfg.WriteTimeout))
	_, err := c.nc.Write(out)
	if cap(out) <= 2*maxOut {
		*from = out[:0]
		outs.Put(from)
	}
	if err != nil {
		c.close(fmt.Errorf("%w: %w", errClosed, err))
	}
	c.mu.Lock()
	c.wakeNext()
}

func (c *conn) written() {
	c.writing = false
	if c.end.hungUp && c.end.err == nil {
		c.halfClose()
	}
}
