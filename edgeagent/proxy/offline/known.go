package offline

import (
	"net/http"
	"sync"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// known remembers versions that clients said they know and that are newer than what is cached. client-go answers a 504 for such a
// version by asking for any version at all: the same client, on the same connection, is then still not shown the older state.
type known struct {
	mu       sync.Mutex // guards versions
	versions map[string]string
}

// maxKnown bounds how many are remembered. A client that is forgotten is only protected as kube-apiserver would protect it.
const maxKnown = 1024

// least gives a request's options with the version that its client is known to know.
func (k *known) least(r *http.Request, req request.Request, scopes scope.Info) request.Options {
	o := req.Options
	client := r.RemoteAddr + "\x00" + req.Path + "\x00" + o.Labels + "\x00" + o.Fields
	k.mu.Lock()
	defer k.mu.Unlock()
	if o.ResourceVersion != "" && o.ResourceVersion != "0" {
		ahead, _ := scope.Older(scopes.Version, o.ResourceVersion)
		if ahead && len(k.versions) < maxKnown {
			k.versions[client] = o.ResourceVersion
		}
		return o
	}
	v, ok := k.versions[client]
	if ahead, _ := scope.Older(scopes.Version, v); ok && ahead {
		o.ResourceVersion = v
	}
	return o
}

// forget is for when the link is back: upstream's own state counts again, which may be older after a restore.
func (k *known) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.versions)
}
