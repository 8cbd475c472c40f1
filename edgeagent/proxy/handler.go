package proxy

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/http2"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/offline"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
)

// call is one request.
type call struct {
	s      *Server
	w      http.ResponseWriter
	r      *http.Request
	caller identity.Caller
	req    request.Request
	err    error // of parsing; upstream has the last word about it
	// since is the version that was kept of what the request reads when it was sent upstream, "" for none.
	since string
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.active.Add(1)
	defer s.active.Done()
	c := &call{s: s, w: w, r: r}
	if !c.sane() || !c.identify() {
		return
	}
	leave, ok := s.busy.enter(c.caller)
	if !ok {
		s.metrics.request(refused, c)
		refuse(w, r, wire.Status{
			Code: http.StatusTooManyRequests, Reason: "TooManyRequests", RetryAfter: 1,
			Message: "this caller has too many requests under way on this node",
		})
		return
	}
	if leave != nil {
		context.AfterFunc(r.Context(), leave) // an answer that the client does not take holds memory after the handler has returned
	}
	c.req, c.err = request.Parse(r)
	switch s.cfg.Link.Wait(r.Context()) {
	case upstream.Online:
		c.online()
	case upstream.Offline:
		c.offline()
	}
}

// sane refuses what is no request to an API server.
func (c *call) sane() bool {
	switch {
	case c.r.Method == http.MethodConnect, c.r.Method == http.MethodTrace:
		c.refuse(status(http.StatusMethodNotAllowed, "MethodNotAllowed", c.r.Method+" is not for an API server"))
	case !strings.HasPrefix(c.r.URL.Path, "/"):
		c.refuse(status(http.StatusBadRequest, "BadRequest", "the path does not begin with /"))
	default:
		return true
	}
	return false
}

// identify finds out who calls.
func (c *call) identify() bool {
	var err error
	if c.caller, err = c.s.cfg.Authenticator.Identify(c.r); err != nil {
		c.refuse(unauthorized(err.Error()))
		return false
	}
	if !c.caller.Node {
		return true
	}
	known(c.r, true, "")
	if c.caller.Impersonates {
		c.refuse(status(http.StatusForbidden, "Forbidden", "the node's certificate does not impersonate anybody: use a bearer token"))
		return false
	}
	return true
}

func (c *call) refuse(st wire.Status) {
	c.s.metrics.request(refused, c)
	refuse(c.w, c.r, st)
}

// offline has the request answered without upstream.
func (c *call) offline() {
	if !c.caller.Node {
		if c.caller.Name == "" {
			c.refuse(unauthorized("this node is offline, and the bearer token is none that can be verified without the API server"))
			return
		}
		if err := c.s.cfg.Authenticator.Verify(c.r.Context(), c.caller); err != nil {
			c.refuse(unauthorized("this node is offline, and the bearer token was not verified: " + err.Error()))
			return
		}
		known(c.r, false, c.caller.Name)
	}
	if c.err != nil {
		c.refuse(malformed(c.err))
		return
	}
	if c.req.Verb != "get" || c.req.Subresource != "" {
		http2.Waiting(c.r.Context()) // it takes long, or asks others
	}
	c.s.metrics.request(cached, c)
	c.s.cfg.Offline.Serve(c.w, c.r, c.req, c.who())
}

func (c *call) who() offline.Caller {
	return offline.Caller{Name: c.caller.Name, Node: c.caller.Node, Impersonates: c.caller.Impersonates}
}

// malformed is what kube-apiserver says of a request that does not parse.
func malformed(err error) wire.Status {
	var e *request.Error
	if !errors.As(err, &e) {
		return status(http.StatusBadRequest, "BadRequest", err.Error())
	}
	st := status(e.Code, e.Reason, e.Message)
	for _, cause := range e.Causes {
		st.Causes = append(st.Causes, wire.Cause(cause))
	}
	return st
}

// maxBusy bounds the requests that one caller with a token has under way, watches included. What a client that does not read holds
// in memory is bounded with it. The node itself is trusted.
const maxBusy = 600

// busy counts requests under way by caller.
type busy struct {
	mu      sync.Mutex
	callers map[string]int
}

// enter counts one more, until leave, which is nil for the node. The tokens of callers without name count together.
func (b *busy) enter(c identity.Caller) (leave func(), ok bool) {
	if c.Node {
		return nil, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.callers == nil {
		b.callers = map[string]int{}
	}
	if b.callers[c.Name] >= maxBusy {
		return nil, false
	}
	b.callers[c.Name]++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.callers[c.Name]--; b.callers[c.Name] == 0 {
			delete(b.callers, c.Name)
		}
	}, true
}
