package offline

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
)

// Handler answers offline. It is safe for concurrent use.
type Handler struct {
	cfg     Config
	leases  leases
	reviews reviews
	kubelet *kubelet
	merged  mergedCache
	moves   *moves
	known   known

	restored atomic.Bool // the addresses of pods are known again

	mu    sync.Mutex    // guards ended
	ended chan struct{} // closed once the link is back
}

var _ Answerer = (*Handler)(nil)

// New makes a Handler. It answers at once; whether it is asked is up to the server.
func New(cfg Config) *Handler {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	if cfg.Spread == 0 {
		cfg.Spread = 2 * time.Second
	}
	if cfg.Bookmarks == 0 {
		cfg.Bookmarks = time.Minute
	}
	h := &Handler{cfg: cfg, ended: make(chan struct{}), moves: newMoves()}
	if cfg.Rewriter != nil {
		cfg.Rewriter.Subscribe(h.moves.add)
	}
	h.known.versions = map[string]string{}
	h.kubelet = newKubelet(cfg.Kubelet)
	h.reviews.decisions = map[[32]byte]decision{}
	return h
}

// Online ends the watches that are served offline, spread over Config.Spread.
func (h *Handler) Online() {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.ended:
	default:
		close(h.ended)
	}
	h.known.forget()
	if h.cfg.Rewriter != nil {
		h.cfg.Rewriter.Clear()
		h.moves.forget()
	}
}

// Offline says that the link is down, and makes what was written before a restart visible where pods are looked up.
func (h *Handler) Offline() {
	h.mu.Lock()
	select {
	case <-h.ended:
		h.ended = make(chan struct{})
	default:
	}
	h.mu.Unlock()
	h.restored.Store(false)
}

// back gives a channel that is closed once the link is back.
func (h *Handler) back() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended
}

// Run forgets old decisions until ctx ends.
func (h *Handler) Run(ctx context.Context) error {
	ticker := time.NewTicker(reviewsKept)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			h.reviews.sweep(h.cfg.Now())
		case <-ctx.Done():
			return nil
		}
	}
}

// node is the identity of this node.
func (h *Handler) node() string { return "system:node:" + h.cfg.Node }

// Serve answers a request.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, req request.Request, caller Caller) {
	if err := h.serve(w, r, req, caller); err != nil {
		h.refuse(w, r, req, err)
	}
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, req request.Request, caller Caller) error {
	if caller.Impersonates {
		return &failure{code: http.StatusForbidden, reason: "Forbidden",
			message: "holdfast: offline, and nobody may act as somebody else: whether that is allowed only the kube-apiserver knows"}
	}
	if !req.Resourceful() {
		return h.path(w, r, req)
	}
	switch req.Verb {
	case "get", "list", "watch":
		if streamed(req) {
			return h.stream(w, r, req, caller)
		}
		return h.read(w, r, req, caller)
	case "create", "update", "patch", "delete", "deletecollection":
		return h.write(w, r, req, caller)
	}
	return h.unavailable(req, "it cannot be done while offline")
}

func (h *Handler) read(w http.ResponseWriter, r *http.Request, req request.Request, caller Caller) error {
	if req.Options.Shard != "" {
		return h.unavailable(req, "shards of a collection are not cached")
	}
	if req.Subresource != "" && req.Subresource != "status" {
		return h.unavailable(req, "its "+req.Subresource+" is not cached")
	}
	if isNodeLease(req, h.cfg.Node) && caller.Node && req.Verb == "get" {
		return h.getLease(w, r, req)
	}
	var err error
	switch req.Verb {
	case "get":
		err = h.get(w, r, req, caller)
	case "list":
		err = h.list(w, r, req, caller)
	default:
		return h.watch(w, r, req, caller)
	}
	if err == nil {
		return nil
	}
	if f, ok := asFailure(err); ok && f.code == http.StatusServiceUnavailable && h.table(w, r, caller) {
		return nil
	}
	return err
}
