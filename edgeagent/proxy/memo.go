package proxy

import (
	"bytes"
	"io"
	"net/http"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/offline"
)

// maxMemo bounds each body of an exchange that is remembered. Tokens and reviews are a few KiB.
const maxMemo = 256 << 10

// memo records a small request and its answer for package offline: a token, or a decision about one.
type memo struct {
	requestType string
	request     bounded
	response    bounded
}

// bounded holds what is written to it, up to a bound.
type bounded struct {
	bytes.Buffer
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.over = b.over || b.Len()+len(p) > maxMemo; !b.over {
		b.Buffer.Write(p)
	}
	return len(p), nil
}

// remember begins to record a request, if package offline wants it.
func (c *call) remember(out *http.Request) *memo {
	if c.err != nil || !c.req.Resourceful() || c.caller.Name == "" || c.caller.Impersonates || !c.s.cfg.Offline.Remembers(c.req) {
		return nil
	}
	m := &memo{requestType: c.r.Header.Get("Content-Type")}
	out.Header.Del("Accept-Encoding")
	if out.Body != http.NoBody {
		out.Body = &recorded{out.Body, &m.request}
	}
	return m
}

// record records an answer's body while it is read.
func (m *memo) record(body io.ReadCloser) io.ReadCloser { return &recorded{body, &m.response} }

// keep hands the exchange over.
func (m *memo) keep(c *call, resp *http.Response) {
	if m.request.over || m.response.over {
		c.s.metrics.tees.WithLabelValues("TooLarge").Inc()
		return
	}
	c.s.cfg.Offline.Remember(c.req, c.who(), offline.Exchange{
		RequestType: m.requestType, Request: m.request.Bytes(),
		Code: resp.StatusCode, ResponseType: resp.Header.Get("Content-Type"), Response: m.response.Bytes(),
	})
}

// recorded is a body that is copied while it is read.
type recorded struct {
	io.ReadCloser
	to *bounded
}

func (r *recorded) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.to.Write(p[:n])
	return n, err
}
