package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// maxRewritten bounds a list that is rewritten: it is held whole, because in protobuf its length comes before its items. A longer one
// is refused, and says that it can be had in pages. To pass it on as it is would send pods to an API server that they cannot reach.
const maxRewritten = 32 << 20

// rewrites tells whether the answer may hold something that this node sees differently. Tables and metadata do not.
func (c *call) rewrites() bool {
	if c.s.cfg.Rewriter == nil || c.err != nil || c.r.Method != http.MethodGet || c.req.Subresource != "" || shapeOf(c.r.Header) != plain {
		return false
	}
	switch c.req.Verb {
	case "get", "list", "watch":
		return c.s.cfg.Rewriter.Wants(c.req.Resource, c.caller.Name)
	}
	return false
}

// rewritten streams or sends the answer as this node sees it. The tap sees it as upstream sent it.
func (c *call) rewritten(resp *http.Response, encoding scope.Encoding) {
	t := c.tap(resp)
	if c.req.Verb == "watch" {
		c.rewrittenWatch(resp, t, encoding)
		return
	}
	body, err := c.rewrittenBody(resp.Body, t, encoding)
	if t != nil {
		t.done(err == nil || errors.Is(err, errTooLong))
	}
	switch {
	case errors.Is(err, errTooLong):
		c.s.log.Warn("a list is too long to be rewritten", "resource", c.req.Resource.String(), "bytes", maxRewritten)
		refuse(c.w, c.r, status(http.StatusInternalServerError, "InternalError",
			fmt.Sprintf("holdfast: this node sees some of these objects differently, and the list has more than %d bytes: ask for it in pages (limit=500)", maxRewritten)))
	case err != nil:
		c.failed(err)
	default:
		inward(c.w.Header(), resp.Header)
		c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		c.w.WriteHeader(resp.StatusCode)
		c.w.Write(body)
	}
}

var errTooLong = errors.New("the answer is too long to be rewritten")

// rewrittenBody reads a list or object and gives it as it is to be seen.
func (c *call) rewrittenBody(body io.Reader, t tap, encoding scope.Encoding) ([]byte, error) {
	raw, err := io.ReadAll(io.TeeReader(io.LimitReader(body, maxRewritten+1), tapWriter{t}))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxRewritten {
		_, err := io.Copy(tapWriter{t}, body)
		return nil, errors.Join(errTooLong, err)
	}
	if c.req.Verb == "get" {
		item, err := wire.Object(encoding, "", "", raw)
		if err != nil {
			return raw, nil // not an object: a Status, or what no rewriter knows
		}
		if item, changed := c.s.cfg.Rewriter.Item(item); changed {
			return wire.AppendObject(nil, item)
		}
		return raw, nil
	}
	return c.rewrittenList(raw, encoding)
}

func (c *call) rewrittenList(raw []byte, encoding scope.Encoding) ([]byte, error) {
	var items []scope.Item
	scanner := wire.NewListScanner(encoding, wire.Limits{Object: maxRewritten}, func(item scope.Item) error {
		items = append(items, item)
		return nil
	})
	if _, err := scanner.Write(raw); err != nil {
		return nil, fmt.Errorf("read list: %w", err)
	}
	list, err := scanner.Close()
	if err != nil {
		return nil, fmt.Errorf("read list: %w", err)
	}
	any := false
	for i, item := range items {
		item, changed := c.s.cfg.Rewriter.Item(list.Own(item))
		any = any || changed
		items[i] = item
	}
	if !any {
		return raw, nil
	}
	out := &sized{b: make([]byte, 0, len(raw)+len(raw)/8)}
	err = wire.WriteList(out, encoding, list, func(yield func(scope.Item, error) bool) {
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
	})
	return out.b, err
}

// sized collects bytes.
type sized struct{ b []byte }

func (s *sized) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

// tapWriter shows bytes to a tap, if there is one.
type tapWriter struct{ t tap }

func (w tapWriter) Write(p []byte) (int, error) {
	if w.t != nil {
		w.t.take(p)
	}
	return len(p), nil
}

// rewrittenWatch streams events, each as soon as it is whole.
func (c *call) rewrittenWatch(resp *http.Response, t tap, encoding scope.Encoding) {
	inward(c.w.Header(), resp.Header)
	c.w.WriteHeader(resp.StatusCode)
	var gone error // writing to the client failed
	scanner := wire.NewWatchScanner(encoding, wire.Limits{}, func(f wire.Frame) error {
		out := f.Raw
		switch f.Type {
		case wire.Added, wire.Modified, wire.Deleted:
			item, changed := c.s.cfg.Rewriter.Item(f.Item)
			if !changed {
				break
			}
			var err error
			if out, err = wire.AppendFrame(nil, f.Type, item); err != nil {
				return err
			}
		}
		_, gone = c.w.Write(out)
		return gone
	})
	flusher, _ := c.w.(http.Flusher)
	flush := func() {
		if flusher != nil {
			flusher.Flush()
		}
	}
	flush()
	b := watchBuffers.Get().(*[watchBuffer]byte)
	defer watchBuffers.Put(b)
	for {
		n, err := resp.Body.Read(b[:])
		if n > 0 {
			_, scan := scanner.Write(b[:n])
			flush()
			tapWriter{t}.Write(b[:n])
			if scan != nil {
				err = scan
			}
		}
		if err == nil {
			continue
		}
		if t != nil {
			t.done(err == io.EOF)
		}
		// What is not whole was not sent: unless it could not be read, the stream ends between two events.
		if err != io.EOF && (gone != nil || scanner.Close() != nil && errors.Is(err, wire.ErrMalformed)) {
			panic(http.ErrAbortHandler)
		}
		return
	}
}
