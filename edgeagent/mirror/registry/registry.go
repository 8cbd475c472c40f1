// Package registry is the registry that containerd talks to: the pull and content-discovery half of the OCI distribution specification,
// for every registry that the fleet declares, online or cut off. It decides two things that no other part can. Who may read what: the
// mirror holds private content of many owners in one store, so each repository is opened only to callers whom its own upstream would
// serve, and those decisions outlive the link. And what a tag means when nobody can be asked. Where bytes come from and where decisions are
// kept it leaves to others, through the three small interfaces Upstream, Content and Meta.
package registry

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// Config is what a Handler works with.
type Config struct {
	Fleet    Fleet
	Upstream Upstream
	Content  Content
	Meta     Meta
	// Key keys the hash under which decisions about credentials are kept: at least 32 bytes that lie apart from Meta.
	Key []byte
	// Fresh is how long a decision of upstream's holds without being asked again while the node is online. Default 5 min.
	Fresh time.Duration
	// Stall is how long a client may take nothing of an answer before it is given up. Default 2 min.
	Stall time.Duration
	// Served, if not nil, is told of every request once it is answered.
	Served func(Request)
	Log    *slog.Logger
	Now    func() time.Time
}

// Request is what Served is told.
type Request struct {
	Method string
	Kind   Kind
	Ref    oci.Reference // zero if the request names none that is declared
	Status int
	Bytes  int64 // of the body, as far as it got
	// Resolution says how a tag was resolved; "" if there was none.
	Resolution Resolution
}

// Handler serves the mirror's registry. It is safe for concurrent use.
type Handler struct {
	cfg   Config
	log   *slog.Logger
	fresh freshness
	asks  singleflight.Group
}

// New makes a Handler.
func New(cfg Config) (*Handler, error) {
	switch {
	case cfg.Fleet == nil || cfg.Upstream == nil || cfg.Content == nil || cfg.Meta == nil:
		return nil, errors.New("the mirror's registry needs a fleet, an upstream, content and metadata")
	case len(cfg.Key) < 32:
		return nil, errors.New("the mirror's registry needs a key of at least 32 bytes for what it keeps about credentials")
	}
	if cfg.Fresh == 0 {
		cfg.Fresh = 5 * time.Minute
	}
	if cfg.Stall == 0 {
		cfg.Stall = 2 * time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Handler{cfg: cfg, log: cfg.Log, fresh: freshness{at: map[decisionKey]fresh{}}}, nil
}

// call is one request.
type call struct {
	*Handler
	ctx    context.Context
	w      *recorder
	r      *http.Request
	target target
	served Request
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{Handler: h, ctx: r.Context(), w: &recorder{ResponseWriter: w}, r: r}
	c.served.Method = r.Method
	defer c.done() // also when a body is broken off by a panic
	c.w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if err := c.serve(); err != nil {
		c.refuse(err)
	}
}

func (c *call) serve() error {
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		c.w.Header().Set("Allow", "GET, HEAD")
		return &refusal{status: http.StatusMethodNotAllowed, code: codeUnsupported, message: "a mirror takes no pushes: push to the registry itself"}
	}
	var err error
	if c.target, err = parseTarget(c.r.URL, c.cfg.Fleet.Declared); err != nil {
		return err
	}
	c.served.Kind, c.served.Ref = c.target.kind, c.target.ref
	switch c.target.kind {
	case Ping:
		return c.json("application/json", struct{}{})
	case Manifest:
		return c.manifest()
	case Blob:
		return c.blob()
	case Tags:
		return c.tags()
	default:
		return c.referrers()
	}
}

func (c *call) done() {
	c.served.Status, c.served.Bytes = c.w.status, c.w.bytes
	level := slog.LevelDebug
	if c.w.status >= 500 {
		level = slog.LevelWarn
	}
	c.log.Log(context.WithoutCancel(c.ctx), level, "mirror answered", "method", c.served.Method, "kind", string(c.served.Kind),
		"name", c.served.Ref.String(), "status", c.served.Status, "bytes", c.served.Bytes, "resolution", string(c.served.Resolution))
	if c.cfg.Served != nil {
		c.cfg.Served(c.served)
	}
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader remembers the status.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write counts.
func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
