// Package proxy is the autonomy proxy's server: the API server of this node, as its kubelet, kube-proxy and pods see it. While the
// link is up it passes requests and answers through as they are, and shows a copy of what was read to the store. While the link is
// down package offline answers from there. Nobody gets the node's identity by reaching a port, and no client waits for a disk.
package proxy

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/offline"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Link is the link to the API servers; *upstream.Link is the one that is used.
type Link interface {
	// RoundTrip sends a request, as the node or as whoever its Authorization header says. The error may be upstream.ErrOffline or
	// upstream.ErrLost.
	RoundTrip(req *http.Request, node bool) (*http.Response, error)
	// Upgrade sends one that asks for another protocol on a connection of its own.
	Upgrade(req *http.Request, node bool) (*http.Response, error)
	State() upstream.State
	// Wait gives the state once it is not Connecting.
	Wait(ctx context.Context) upstream.State
	// Subscribe calls f, which must not block, with each new state.
	Subscribe(f func(upstream.State))
}

// Authenticator tells who calls; *identity.Authenticator is the one that is used.
type Authenticator interface {
	Identify(r *http.Request) (identity.Caller, error)
	// Verify tells without upstream whether a caller is who it says.
	Verify(ctx context.Context, c identity.Caller) error
}

// Store is the cache, as the server needs it. No method waits for a disk.
type Store interface {
	Replace(key scope.Key, kind scope.Kind, version string, items []scope.Item)
	Apply(key scope.Key, version string, events []scope.Event)
	Advance(key scope.Key, version string)
	Put(key scope.Key, item scope.Item)
	Forget(key scope.Key)
	Drop(identity string, r scope.Resource, namespace string)
	Dirty(key scope.Key, why string)
	Info(key scope.Key) (scope.Info, bool)
	Scopes(identity string, r scope.Resource) []scope.Info
	Document(identity, path string) (scope.Document, bool, error)
	PutDocument(identity, path string, d scope.Document)
	// ConfirmDocument says that upstream still has a document as it is kept.
	ConfirmDocument(identity, path string)
}

// Rewriter is what this node sees differently; *rewrite.Rewriter is the one that is used.
type Rewriter interface {
	// Wants tells whether objects of a resource may look different to a caller, by its name.
	Wants(r scope.Resource, caller string) bool
	// Item gives the object as it is to be seen, and whether that differs.
	Item(item scope.Item) (scope.Item, bool)
}

// Listener is one address to serve at.
type Listener struct {
	net.Listener
	// Pods tells that strangers reach it: a pod can open connections without limit, and must not take those of the node.
	Pods bool
}

// Config is what a Server is made of. Rewriter, Log, Now and the durations may be left out.
type Config struct {
	// Node is the name of this node.
	Node string
	// Listeners accept TCP; the server speaks TLS on them.
	Listeners []Listener
	// TLS is what to serve with: Authority.ServerTLS.
	TLS           *tls.Config
	Link          Link
	Authenticator Authenticator
	Store         Store
	Offline       offline.Answerer
	Rewriter      Rewriter
	Settings      Settings
	Log           *slog.Logger
	// Now is the wall clock: it stamps what is kept.
	Now func() time.Time
	// Changed is told of each new state of the link, after Offline was. It must not block. It may be nil.
	Changed func(upstream.State)
	// Spread is over how long what the proxy asks for itself is spread after the link came back. Default 5 s.
	Spread time.Duration
}

// Settings are what the fleet repo says, and may change while the server runs.
type Settings struct {
	// NeverCache names resources that are not kept, as "secrets" or "widgets.example.com": in any version. Events and leases never are.
	NeverCache []string
}
