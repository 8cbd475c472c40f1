package upstream

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"sync"
	"syscall"
	"time"
)

// What ends a hop that takes too long.
var (
	errNoConnection = errors.New("no connection in time")
	errSilent       = errors.New("it is connected and says nothing")
	errGone         = errors.New("the network swallows what is sent on the connection")
)

// hopKey finds the hop in the context of the connection that is made for it.
type hopKey struct{}

// phase is what a hop waits for.
type phase int

const (
	connecting phase = iota // a connection
	shaking                 // TLS, on a connection that is there
	waiting                 // the head of the answer
	over                    // nothing: the reader of the body looks after the timer
)

// hop is one request to one host, and how long it is waited for.
type hop struct {
	cancel        context.CancelCauseFunc
	connect, idle time.Duration
	proxied       bool
	dial          func(ctx context.Context, network, address string) (net.Conn, error) // looks whether the network is there
	done          context.Context                                                      // ends when there is an answer, or none will come
	finish        context.CancelFunc

	mu    sync.Mutex // guards what follows
	timer *time.Timer
	phase phase
}

// newHop begins to wait for a connection.
func (l *link) newHop(ctx context.Context, proxied bool) (context.Context, *hop) {
	ctx, cancel := context.WithCancelCause(ctx)
	h := &hop{cancel: cancel, connect: l.cfg.Connect, idle: l.cfg.Idle, proxied: proxied, dial: l.dialer(&net.Dialer{})}
	h.done, h.finish = context.WithCancel(context.Background())
	h.timer = time.AfterFunc(h.connect, h.tooLong)
	ctx = context.WithValue(ctx, hopKey{}, h)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GetConn: h.getConn, GotConn: h.gotConn}), h
}

func (h *hop) tooLong() {
	if h.carried() {
		h.cancel(errSilent)
		return
	}
	h.cancel(errNoConnection)
}

// carried tells whether a connection carries the request.
func (h *hop) carried() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.phase >= waiting
}

// enter goes on to a phase from certain others.
func (h *hop) enter(to phase, patience time.Duration, from ...phase) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range from {
		if h.phase == p {
			h.phase = to
			h.timer.Reset(patience)
			return
		}
	}
}

// getConn is called before a connection is sought: again, if a kept one proved dead.
func (h *hop) getConn(string) { h.enter(connecting, h.connect, waiting) }

// connected is called when TCP is connected, perhaps too late. The host is there: from now on it is waited for. A proxy being there says
// nothing about the host.
func (h *hop) connected() {
	if !h.proxied {
		h.enter(shaking, h.idle, connecting)
	}
}

// gotConn is called when a connection, made or kept, is about to carry the request.
func (h *hop) gotConn(info httptrace.GotConnInfo) {
	h.enter(waiting, h.idle, connecting, shaking)
	if info.Reused {
		go h.look(info.Conn.RemoteAddr())
	}
}

// look finds out, while a kept connection gives no answer, whether it still leads anywhere: one that was made before the network went
// away would otherwise look like a slow registry. Only silence counts; a refusal comes over a network.
func (h *hop) look(remote net.Addr) {
	early := time.NewTimer(h.connect / 4)
	defer early.Stop()
	select {
	case <-h.done.Done():
		return
	case <-early.C:
	}
	ctx, cancel := context.WithTimeout(h.done, h.connect*3/4)
	defer cancel()
	conn, err := h.dial(ctx, remote.Network(), remote.String())
	if err == nil {
		conn.Close()
		return
	}
	if h.done.Err() == nil && !errors.Is(err, syscall.ECONNREFUSED) {
		h.cancel(errGone)
	}
}

// answered is called once, when the head of the answer is there or none will come. It tells whether a connection carried the request.
func (h *hop) answered() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	carried := h.phase == waiting
	h.phase = over
	h.timer.Stop()
	h.finish()
	return carried
}
