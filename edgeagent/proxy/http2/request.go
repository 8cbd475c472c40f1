package http2

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	frames "golang.org/x/net/http2"
)

// maxNames and maxName bound the header names of which a connection remembers the canonical form.
const maxNames, maxName = 64, 64

// request makes a stream of a header block.
func (c *conn) request(h *head) (*stream, error) {
	bad := func(why string) (*stream, error) {
		return nil, streamError(h.id, frames.ErrCodeProtocol, why)
	}
	if h.bad != "" {
		return bad(h.bad)
	}
	if h.large {
		return c.tooLarge(h), nil
	}
	if !httpguts.ValidHeaderFieldName(h.method) {
		return bad("no valid method")
	}
	u, why := h.url()
	if why != "" {
		return bad(why)
	}
	header, why := c.fieldsOf(h)
	if why != "" {
		return bad(why)
	}
	length, why := h.length(header)
	if why != "" {
		return bad(why)
	}
	st := c.newStream(h, length)
	req := http.Request{
		Method: h.method, URL: u, RequestURI: h.path, Header: header, Host: h.authority, ContentLength: length,
		Proto: "HTTP/2.0", ProtoMajor: 2, RemoteAddr: c.remote, TLS: c.tls,
	}
	if h.method == http.MethodConnect {
		req.RequestURI = h.authority
	}
	if h.ended {
		req.Body = http.NoBody
	} else {
		req.Body = &st.body
		if httpguts.HeaderValuesContainsToken(header["Expect"], "100-continue") {
			st.body.expected = true
			delete(header, "Expect")
		}
	}
	st.req = req.WithContext(st)
	return st, nil
}

// url reads the pseudo-headers.
func (h *head) url() (u *url.URL, why string) {
	if h.method == http.MethodConnect {
		if h.authority == "" || h.path != "" || h.scheme != "" || !httpguts.ValidHostHeader(h.authority) {
			return nil, "malformed CONNECT"
		}
		return &url.URL{Host: h.authority}, ""
	}
	if h.scheme != "https" && h.scheme != "http" {
		return nil, "the scheme is neither https nor http"
	}
	if h.path == "*" && h.method == http.MethodOptions {
		return &url.URL{Path: "*"}, ""
	}
	if !strings.HasPrefix(h.path, "/") || strings.ContainsFunc(h.path, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, "malformed path"
	}
	u, err := url.ParseRequestURI(h.path)
	if err != nil {
		return nil, "malformed path"
	}
	return u, ""
}

// fieldsOf gives the header as handlers know it.
func (c *conn) fieldsOf(h *head) (header http.Header, why string) {
	header = make(http.Header, len(h.fields))
	values := make([]string, len(h.fields))
	for i, f := range h.fields {
		name := c.canonical(f.Name)
		if before, ok := header[name]; ok {
			if name == "Cookie" {
				before[0] += "; " + f.Value // HTTP/2 may take it apart
				continue
			}
			header[name] = append(before, f.Value)
			continue
		}
		values[i] = f.Value
		header[name] = values[i : i+1 : i+1]
	}
	if hosts, ok := header["Host"]; ok {
		if len(hosts) > 1 || h.authority != "" && !strings.EqualFold(hosts[0], h.authority) {
			return nil, "host and :authority differ"
		}
		h.authority = hosts[0]
		delete(header, "Host")
	}
	if !httpguts.ValidHostHeader(h.authority) {
		return nil, "malformed host"
	}
	return header, ""
}

func (c *conn) canonical(name string) string {
	known, ok := c.names[name]
	if !ok {
		known = http.CanonicalHeaderKey(name)
		if c.names == nil {
			c.names = map[string]string{}
		}
		if len(name) <= maxName && len(c.names) < maxNames {
			c.names[name] = known
		}
	}
	return known
}

// length gives how long the body is to be, -1 if that is not known.
func (h *head) length(header http.Header) (n int64, why string) {
	lengths := header["Content-Length"]
	if len(lengths) == 0 {
		if h.ended {
			return 0, ""
		}
		return -1, ""
	}
	u, err := strconv.ParseUint(lengths[0], 10, 63)
	if err != nil || h.ended && u != 0 {
		return 0, "the content-length is wrong"
	}
	for _, other := range lengths[1:] {
		if other != lengths[0] {
			return 0, "there is more than one content-length"
		}
	}
	header["Content-Length"] = lengths[:1]
	return int64(u), ""
}

// tooLarge makes a stream that is answered with 431.
func (c *conn) tooLarge(h *head) *stream {
	st := c.newStream(h, -1)
	st.handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "the request's headers are longer than "+strconv.Itoa(h.limit)+" bytes", http.StatusRequestHeaderFieldsTooLarge)
	})
	method := http.MethodGet
	if h.method == http.MethodHead {
		method = http.MethodHead
	}
	req := http.Request{Method: method, URL: &url.URL{Path: "/"}, Header: http.Header{}, Body: http.NoBody, Proto: "HTTP/2.0", ProtoMajor: 2, RemoteAddr: c.remote, TLS: c.tls}
	st.req = req.WithContext(st)
	return st
}

func (c *conn) newStream(h *head, length int64) *stream {
	st := &stream{c: c, id: h.id, head: h.size, handler: c.handler, wake: make(chan struct{}, 1)}
	st.Context, st.cancel = context.WithCancel(c.base)
	st.body = body{st: st, ended: h.ended, left: length, window: int64(c.srv.cfg.StreamWindow)}
	st.response.st = st
	st.response.declared = -1
	return st
}
