package edgeagent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/selftest"
)

// socketName is the control socket's, in the state folder. Local root alone talks through it: it is mode 0600 in a folder
// of mode 0700, and the agent asks the kernel who is on the other end.
const socketName = "control.sock"

// maxSocketPath is what the kernel takes.
const maxSocketPath = 107

func listenControl(state string) (net.Listener, error) {
	path := filepath.Join(state, socketName)
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("control socket %s: the path is longer than %d bytes: choose a shorter state folder", path, maxSocketPath)
	}
	// The state's lock is held, so a socket that is there was left behind.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	return l, nil
}

type peerKey struct{}

// withPeer notes which user is on the other end of a unix socket.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if u, ok := c.(*net.UnixConn); ok {
		if uid, err := peerUID(u); err == nil {
			return context.WithValue(ctx, peerKey{}, uid)
		}
	}
	return ctx
}

// permitted says whether a request comes from root or from the agent's own user.
func permitted(r *http.Request) bool {
	uid, ok := r.Context().Value(peerKey{}).(uint32)
	return ok && (uid == 0 || int(uid) == os.Geteuid())
}

// problem is an error on its way through the socket.
type problem struct {
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message"`
}

func (p *problem) Error() string        { return p.Message }
func (p *problem) StableReason() string { return p.Reason }

func (a *Agent) controlHandler() http.Handler {
	mux := http.NewServeMux()
	answer := func(pattern string, do func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !permitted(r) {
				reply(w, http.StatusForbidden, &problem{Message: "only root and the agent's own user may use the control socket"})
				return
			}
			body, err := do(r)
			if err != nil {
				reply(w, http.StatusConflict, &problem{Reason: reasonOf(err), Message: err.Error()})
				return
			}
			reply(w, http.StatusOK, body)
		})
	}
	handle := func(pattern string, do func(r *http.Request) error) {
		answer(pattern, func(r *http.Request) (any, error) {
			if err := do(r); err != nil {
				return nil, err
			}
			return a.status(), nil
		})
	}
	answer("GET /v1/selftest", func(r *http.Request) (any, error) { return a.selftest(r.Context()) })
	handle("GET /v1/status", func(*http.Request) error { return nil })
	handle("POST /v1/sync", func(r *http.Request) error { return a.sync(r.Context()) })
	handle("POST /v1/re-anchor", func(r *http.Request) error {
		var in struct{ Commit string }
		if err := json.NewDecoder(io.LimitReader(r.Body, 4096)).Decode(&in); err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		return a.Reanchor(r.Context(), in.Commit)
	})
	return mux
}

// reasonOf gives an error's own stable reason, "" if it has none.
func reasonOf(err error) string {
	var r interface{ StableReason() string }
	if errors.As(err, &r) {
		return r.StableReason()
	}
	return ""
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(body) // an error means that nobody listens any more
}

// sync polls at once and waits until the parts are done with what came of it, or ctx ends. What came of it is in the
// status; an error is only one of asking.
func (a *Agent) sync(ctx context.Context) error {
	if err := a.do(ctx, a.poll); err != nil {
		a.log.Debug("sync", "err", err) // the conditions say the same
	}
	for a.store.State().InForce != nil {
		changed := a.board.change()
		if a.loop.Settled() {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
	return ctx.Err()
}

// do has the follow loop run something.
func (a *Agent) do(ctx context.Context, run func(context.Context) error) error {
	c := command{run: run, done: make(chan error, 1)}
	select {
	case a.commands <- c:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ErrNotRunning says that no agent answers in a state folder. Match with errors.Is.
var ErrNotRunning = errors.New("no agent runs")

// Control talks to the agent that runs in a state folder.
type Control struct{ State string }

// Status asks for the status.
func (c Control) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// Selftest has the agent replay the boot against the proxy's cache: see selftest.Run.
func (c Control) Selftest(ctx context.Context) (selftest.Result, error) {
	return call[selftest.Result](ctx, c, http.MethodGet, "/v1/selftest", nil)
}

// Sync has the agent poll now and waits until it is done with what came of it.
func (c Control) Sync(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodPost, "/v1/sync", nil)
}

// Reanchor has the agent take a commit as its new anchor: see Agent.Reanchor.
func (c Control) Reanchor(ctx context.Context, commit string) (Status, error) {
	return call[Status](ctx, c, http.MethodPost, "/v1/re-anchor", map[string]string{"commit": commit})
}

// call asks the agent and decodes its answer.
func call[Out any](ctx context.Context, c Control, method, path string, body any) (out Out, err error) {
	socket := filepath.Join(c.State, socketName)
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	raw, err := json.Marshal(body)
	if err != nil {
		return out, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(raw))
	if err != nil {
		return out, err
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return out, fmt.Errorf("%w in %s: start it with systemctl start holdfast-agent, or holdfast-agent run --state %s", ErrNotRunning, c.State, c.State)
	case err != nil:
		return out, fmt.Errorf("ask agent: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		p := &problem{Message: resp.Status}
		if err := json.NewDecoder(resp.Body).Decode(p); err != nil {
			return out, fmt.Errorf("ask agent: %s: %w", resp.Status, err)
		}
		return out, p
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return out, fmt.Errorf("ask agent: %w", err)
	}
	return out, nil
}
