package http2

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
)

// draft is what of an answer is not sent yet. Only answers that have some hold one: a watch between two events has none.
type draft struct {
	fields []hpack.HeaderField
	data   []byte
}

var drafts = sync.Pool{New: func() any { return &draft{data: make([]byte, 0, dataFrame)} }}

// response is the http.ResponseWriter. Like net/http's it is for one goroutine at a time.
type response struct {
	st       *stream
	header   http.Header
	status   int // 0 until WriteHeader
	declared int64
	written  int64
	draft    *draft
	sent     bool // the headers were; guarded by conn.mu
	complete bool
	over     bool
}

// Header is part of http.ResponseWriter.
func (r *response) Header() http.Header {
	if r.header == nil {
		r.header = make(http.Header, 8)
	}
	return r.header
}

func (r *response) open() *draft {
	if r.draft == nil {
		r.draft = drafts.Get().(*draft)
	}
	return r.draft
}

// release gives the draft back.
func (r *response) release() {
	if d := r.draft; d != nil {
		r.draft = nil
		clear(d.fields)
		d.fields, d.data = d.fields[:0], d.data[:0]
		drafts.Put(d)
	}
}

var errOver = errors.New("http2: the handler has returned")

// WriteHeader is part of http.ResponseWriter. What is changed in Header later is not sent.
func (r *response) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %v", status))
	}
	if r.status != 0 || r.over {
		return
	}
	d := r.open()
	r.collect(d)
	if status < 200 {
		r.inform(status, d)
		return
	}
	r.status = status
	if lengths := r.header["Content-Length"]; len(lengths) > 0 {
		if n, err := strconv.ParseUint(lengths[0], 10, 63); err == nil {
			r.declared = int64(n)
		}
	}
}

// collect reads the header.
func (r *response) collect(d *draft) {
	d.fields = d.fields[:0]
	for name, values := range r.header {
		low := lower(name)
		if low == "" || strings.HasPrefix(name, http.TrailerPrefix) {
			continue
		}
		if low == "connection" && slices.Contains(values, "close") {
			r.st.c.drain()
		}
		if hop(low) {
			continue
		}
		for _, value := range values {
			if httpguts.ValidHeaderFieldValue(value) {
				d.fields = append(d.fields, hpack.HeaderField{Name: low, Value: value, Sensitive: unique(low)})
			}
		}
	}
}

// inform sends a provisional answer. 101 is none in HTTP/2.
func (r *response) inform(status int, d *draft) {
	c := r.st.c
	c.mu.Lock()
	if r.st.err == nil && status != http.StatusSwitchingProtocols {
		c.appendHeaders(r.st.id, status, d.fields, false)
		c.push(r.st)
	}
	c.mu.Unlock()
}

// bodyless tells whether the answer has no body.
func (r *response) bodyless() bool {
	return r.status == http.StatusNoContent || r.status == http.StatusNotModified
}

// Write is part of http.ResponseWriter.
func (r *response) Write(p []byte) (int, error) { return write(r, p) }

// WriteString is part of io.StringWriter.
func (r *response) WriteString(s string) (int, error) { return write(r, s) }

// write collects what makes a frame, and sends what makes more than one. The last piece is always kept, for the end of the stream to go
// with it.
func write[T []byte | string](r *response, p T) (int, error) {
	if r.over {
		return 0, errOver
	}
	r.WriteHeader(http.StatusOK)
	if r.bodyless() {
		return 0, http.ErrBodyNotAllowed
	}
	if r.declared >= 0 && r.written+int64(len(p)) > r.declared {
		return 0, http.ErrContentLength
	}
	r.written += int64(len(p))
	d := r.open()
	if r.st.req.Method == http.MethodHead {
		r.sniff(d, []byte(p[:min(len(p), 512)]))
		return len(p), nil
	}
	n := len(p)
	more := len(d.data)+len(p) > dataFrame
	for len(d.data)+len(p) > dataFrame {
		free := dataFrame - len(d.data)
		d.data = append(d.data, p[:free]...)
		p = p[free:]
		if err := r.forward(false); err != nil {
			return 0, err
		}
	}
	d.data = append(d.data, p...)
	if more {
		c := r.st.c
		c.mu.Lock()
		c.push(r.st)
		c.mu.Unlock()
	}
	return n, nil
}

// forward sends what was collected.
func (r *response) forward(end bool) error {
	d := r.open()
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	r.sniff(d, d.data)
	err := r.st.send(d.data, end)
	d.data = d.data[:0]
	return err
}

// sniff finds the type of a body out if the handler did not say it.
func (r *response) sniff(d *draft, p []byte) {
	if !r.sent && len(p) > 0 && !has(d.fields, "content-type") && !has(d.fields, "content-encoding") {
		d.fields = append(d.fields, hpack.HeaderField{Name: "content-type", Value: http.DetectContentType(p)})
	}
}

// sendHead adds the headers to what is to be written. The connection's lock is held.
func (st *stream) sendHead(end bool) {
	r := &st.response
	d := r.draft
	if !has(d.fields, "date") {
		d.fields = append(d.fields, hpack.HeaderField{Name: "date", Value: st.c.srv.now(), Sensitive: true})
	}
	st.c.appendHeaders(st.id, r.status, d.fields, end)
	r.sent = true
}

func has(fields []hpack.HeaderField, name string) bool {
	return slices.ContainsFunc(fields, func(f hpack.HeaderField) bool { return f.Name == name })
}

// Flush is part of http.Flusher.
func (r *response) Flush() { r.FlushError() }

// FlushError is for http.ResponseController.
func (r *response) FlushError() error {
	if r.over {
		return errOver
	}
	r.st.waiting() // an answer in pieces takes long
	if err := r.forward(false); err != nil {
		return err
	}
	r.release()
	c := r.st.c
	c.mu.Lock()
	c.flush()
	c.mu.Unlock()
	return nil
}

// end ends the answer.
func (r *response) end() {
	d := r.open()
	r.WriteHeader(http.StatusOK)
	head := r.st.req.Method == http.MethodHead
	if !r.sent && r.declared < 0 && !r.bodyless() && (!head || r.written > 0) {
		// All of it is here: more than fits would have been sent.
		d.fields = append(d.fields, hpack.HeaderField{Name: "content-length", Value: strconv.FormatInt(r.written, 10), Sensitive: true})
	}
	if r.declared > r.written && !head && !r.bodyless() {
		return // the client must see that it is not whole
	}
	r.complete = r.forward(true) == nil
}
