package http2

import (
	"bufio"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	frames "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// maxFragments bounds the frames of a header block. Clients fill them.
const maxFragments = 64

// headShare is what each request that a connection may have under way may have of headers on average, as HTTP/2 counts them.
const headShare = 4 << 10

// reader is what reading a connection takes. Only the leader uses it.
type reader struct {
	br      *bufio.Reader
	fr      *frames.Framer
	dec     *hpack.Decoder
	greeted bool // SETTINGS came
	calm    calm
	head    head
	names   map[string]string // canonical, by what clients send
}

// head is a header block while it is read.
type head struct {
	limit     int
	id        uint32
	ended     bool // nothing comes after it
	itself    bool // the stream depends on itself
	fragments int
	bytes     int // compressed
	size      int // as HTTP/2 counts it
	large     bool
	bad       string // why it is malformed

	method, scheme, authority, path string
	pseudo                          int
	fields                          []hpack.HeaderField
}

func (h *head) begin(f *frames.HeadersFrame) {
	clear(h.fields)
	*h = head{limit: h.limit, id: f.StreamID, ended: f.StreamEnded(), fields: h.fields[:0]}
	h.itself = f.HasPriority() && f.Priority.StreamDep == f.StreamID
	if cap(h.fields) > 256 {
		h.fields = nil
	}
}

// field takes one header.
func (h *head) field(f hpack.HeaderField) {
	if h.size += int(f.Size()); h.size > h.limit {
		h.large = true
		return
	}
	switch {
	case !httpguts.ValidHeaderFieldValue(f.Value):
		h.bad = "a header has an invalid value"
	case strings.HasPrefix(f.Name, ":"):
		h.pseudoField(f)
	case !validName(f.Name):
		h.bad = "a header has an invalid name"
	default:
		switch f.Name {
		case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
			h.bad = f.Name + " does not belong into HTTP/2"
		case "te":
			if f.Value != "trailers" {
				h.bad = "te is not trailers"
			}
		}
		h.fields = append(h.fields, f)
	}
}

func (h *head) pseudoField(f hpack.HeaderField) {
	var into *string
	switch f.Name {
	case ":method":
		into = &h.method
	case ":scheme":
		into = &h.scheme
	case ":authority":
		into = &h.authority
	case ":path":
		into = &h.path
	default:
		h.bad = "unknown pseudo-header " + f.Name
		return
	}
	if *into != "" || f.Value == "" || len(h.fields) > 0 {
		h.bad = "a pseudo-header is twice there, empty or after others"
		return
	}
	*into = f.Value
	h.pseudo++
}

// validName tells whether a header has a name as HTTP/2 has them: in lower case.
func validName(name string) bool {
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' || !httpguts.IsTokenRune(rune(c)) {
			return false
		}
	}
	return name != ""
}

// headers handles the first frame of a header block.
func (c *conn) headers(f *frames.HeadersFrame) (*stream, error) {
	c.head.begin(f)
	if !f.HeadersEnded() && c.hs.ReadHeaderTimeout > 0 {
		c.nc.SetReadDeadline(time.Now().Add(c.hs.ReadHeaderTimeout))
	}
	return c.fragment(f.HeaderBlockFragment(), f.HeadersEnded())
}

// fragment handles a piece of a header block. Every block is decoded, whatever becomes of it: the next one builds on it.
func (c *conn) fragment(p []byte, whole bool) (*stream, error) {
	h := &c.head
	h.fragments++
	if h.bytes += len(p); h.bytes > h.limit || h.fragments > maxFragments {
		return nil, connError{frames.ErrCodeEnhanceYourCalm, "the headers are too long"}
	}
	_, err := c.dec.Write(p)
	if err == nil && whole {
		err = c.dec.Close()
	}
	if err != nil {
		return nil, connError{frames.ErrCodeCompression, err.Error()}
	}
	if !whole {
		return nil, nil
	}
	if h.fragments > 1 {
		c.nc.SetReadDeadline(time.Time{})
	}
	return c.block(h)
}

// block handles a header block: a request, or the trailers of one.
func (c *conn) block(h *head) (*stream, error) {
	if h.id%2 == 0 {
		return nil, connError{frames.ErrCodeProtocol, "a client's streams have odd numbers"}
	}
	c.mu.Lock()
	if h.id <= c.last {
		defer c.mu.Unlock()
		return nil, c.trailers(h)
	}
	err := c.admit(h)
	c.mu.Unlock()
	if err != nil || h.id > c.last {
		return nil, err
	}
	st, err := c.request(h)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		err = c.end.err
	}
	if err != nil {
		c.handlers--
		c.heads -= h.size
		return nil, err
	}
	st.window = c.initial
	c.streams[h.id] = st
	return st, nil
}

// admit tells whether a request may come in. A request that came after the last one that is served is as if it had not come.
func (c *conn) admit(h *head) error {
	if c.end.final {
		return nil
	}
	c.last = h.id
	switch {
	case h.itself:
		return streamError(h.id, frames.ErrCodeProtocol, "a stream depends on itself")
	case max(c.handlers, len(c.streams)) >= c.srv.cfg.MaxStreams:
		return streamError(h.id, frames.ErrCodeRefusedStream, "too many requests are under way")
	case c.handlers > 0 && c.heads+h.size > c.srv.cfg.MaxStreams*headShare:
		return streamError(h.id, frames.ErrCodeRefusedStream, "the requests under way have too many headers")
	}
	c.handlers++
	c.heads += h.size
	return nil
}

// trailers handles what comes after a request's body. Nobody here wants to know what is in it. The lock is held.
func (c *conn) trailers(h *head) error {
	st := c.streams[h.id]
	switch {
	case st == nil && c.wasDropped(h.id):
		return c.calm.cheap()
	case st == nil:
		return connError{frames.ErrCodeStreamClosed, "HEADERS of a stream that is closed"}
	case st.body.ended:
		return streamError(h.id, frames.ErrCodeStreamClosed, "HEADERS after the end")
	case !h.ended, h.bad != "", h.pseudo > 0:
		return streamError(h.id, frames.ErrCodeProtocol, "malformed trailers")
	}
	return st.body.take(nil, 0, true)
}
