package pool

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
)

const (
	// idleClient and idleServer are how long a connection without a request stays. The client's is shorter, so that it is the one to close.
	idleClient, idleServer = time.Minute, 2 * time.Minute
	// pingAfter and pingWithin find out that the other end is gone while something is under way.
	pingAfter, pingWithin = 5 * time.Second, 5 * time.Second
	// probeWithin is how long a member has to answer at an address that it may have left.
	probeWithin = 2 * time.Second
	maxHeader   = 32 << 10
	maxStreams  = 128
	// window is how much of a stream is under way at most: on a LAN more gains nothing.
	window = 1 << 20
)

func (p *Pool) newServer() *http.Server {
	p.door.shut = make(chan struct{})
	s := &http.Server{
		Handler: http.HandlerFunc(p.serve), ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: idleServer, MaxHeaderBytes: maxHeader,
		Protocols:   new(http.Protocols),
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: maxStreams, SendPingTimeout: pingAfter, PingTimeout: pingWithin, MaxReceiveBufferPerStream: window},
		BaseContext: func(net.Listener) context.Context { return p.life },
	}
	s.Protocols.SetHTTP2(true)
	return s
}

// Handle has a handler answer members' requests for a pattern, as http.ServeMux has it. It is called before Run.
func (p *Pool) Handle(pattern string, handler http.Handler) { p.mux.Handle(pattern, handler) }

// memberKey is under which a request's context holds the member's name.
type memberKey struct{}

// MemberOf names the member that sent a request which a Pool handed on. It is "" for any other request.
func MemberOf(r *http.Request) string {
	name, _ := r.Context().Value(memberKey{}).(string)
	return name
}

// serve hands a member's request on. It looks again whose it is: a request may be under way while its sender is removed.
func (p *Pool) serve(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil {
		panic(http.ErrAbortHandler)
	}
	key, err := identity.Peer(*r.TLS)
	member := p.nameOf(key)
	if err != nil || member == "" || member == p.cfg.Node {
		panic(http.ErrAbortHandler)
	}
	p.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), memberKey{}, member)))
}
