// Package offline answers for the kube-apiserver while the node cannot reach it: reads from what was read before, the few writes
// whose meaning survives a delay, tokens that were issued before, and exec and logs through the local kubelet. What it cannot
// answer truly it refuses with 503 and says what is missing: it loses nothing and invents nothing.
package offline

import (
	"context"
	"iter"
	"log/slog"
	"net/http"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/rewrite"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Store is the cache, as this package needs it. Methods are safe for concurrent use.
type Store interface {
	// Scopes gives what is kept of a resource for an identity. The slice is the caller's.
	Scopes(identity string, r scope.Resource) []scope.Info
	// Read gives a scope and its items as one consistent snapshot. The items may be used only until the function returns.
	Read(key scope.Key, use func(scope.Info, iter.Seq2[scope.Item, error]) error) error
	// Get gives one object of a scope; false if the scope does not have it. The item may be kept.
	Get(key scope.Key, namespace, name string) (scope.Item, bool, error)
	// Document gives an answer that was kept whole.
	Document(identity, path string) (scope.Document, bool, error)
	PutDocument(identity, path string, d scope.Document)
	// Token gives an issued token that was kept, sealed, under a key.
	Token(key string) ([]byte, bool, error)
	PutToken(key string, raw []byte)
}

// Caller is who asks, already authenticated.
type Caller struct {
	// Name is the identity that scopes are kept under.
	Name string
	// Node: the caller holds the node's local certificate. It is root of this node, or the kubelet.
	Node bool
	// Impersonates: the request carries Impersonate headers.
	Impersonates bool
}

// Config says what a Handler needs. Node, Store and Outbox are required.
type Config struct {
	// Node is the name of this node.
	Node   string
	Store  Store
	Outbox *outbox.Outbox
	// Rewriter is what this node sees differently. nil: nothing.
	Rewriter *rewrite.Rewriter
	Kubelet  Kubelet
	Log      *slog.Logger
	// Now is the wall clock.
	Now func() time.Time
	// Rand gives numbers in [0,1) for jitter.
	Rand func() float64
	// Spread is over how long watches end once the link is back. Default: 2 s.
	Spread time.Duration
	// Bookmarks is how often a silent watch is sent one. Default: 1 minute, give or take a tenth.
	Bookmarks time.Duration
}

// Kubelet says how the local kubelet is reached for exec, attach, port-forward and logs.
type Kubelet struct {
	// Certificates are files that may hold the kubelet's serving certificate. The kubelet must show one of those that exist; if
	// none does, whoever listens at the node's kubelet port is taken for the kubelet.
	Certificates []string
}

// Exchange is a small request that upstream answered, to be remembered: token requests and reviews.
type Exchange struct {
	RequestType  string // Content-Type
	Request      []byte
	Code         int
	ResponseType string // Content-Type
	Response     []byte
}

// Answerer is what the proxy's server needs of a Handler.
type Answerer interface {
	// Serve answers a request offline. The request was parsed into req, or parsing gave err.
	Serve(w http.ResponseWriter, r *http.Request, req request.Request, caller Caller)
	// Online says that the link is back: watches that Serve answers end, spread over Config.Jitter.
	Online()
	// Offline says that the link is down.
	Offline()
	// Remembers tells whether Remember wants the whole exchange of such a request. Bodies are small.
	Remembers(req request.Request) bool
	Remember(req request.Request, caller Caller, e Exchange)
	// Document tells under which identity and path a whole answer to a GET is to be kept: discovery, OpenAPI and /version for
	// every caller, Tables for the one who asked. Not ok: it is not.
	Document(r *http.Request, req request.Request, caller Caller, contentType string) (identity, path string, ok bool)
	// Hold is called around a request that is sent upstream. It waits if that same status is being replayed, and once upstream has
	// taken the request what waits in the outbox for the same object is forgotten: it is older. done takes the answer's code, 0
	// if there was none.
	Hold(req request.Request, caller Caller) (done func(code int))
	// Run sweeps what was remembered for a short time. It returns when ctx ends.
	Run(ctx context.Context) error
}
