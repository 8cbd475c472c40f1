package proxy

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/http2"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// An API server whose etcd was restored from a snapshot counts its versions again from an older one. A watch from a version that it has
// not reached yet is silent until it has: for a node, that is a hang. And what was kept is of a history that did not happen. So each time
// the link comes up, before the first watch goes through, upstream is asked for its newest version.
type epoch struct {
	s *Server

	mu     sync.Mutex // guards what follows
	ups    int        // how often the link went down
	newest uint64     // the newest version that upstream is known to have reached since; 0: not asked yet
	asking chan struct{}
	silent time.Time // until then upstream is not asked again, because it did not say
	// since is when the first such version was asked for. restored is when a restore was noticed last.
	since, restored time.Time
}

// newestPath is a list that a node may read and that is there in every cluster; one item of it is enough.
const newestPath = "/api/v1/services?limit=1"

// askTime bounds how long a watch waits for that, and askAgain is how long watches do not wait after upstream did not say.
const askTime, askAgain = 2 * time.Second, 30 * time.Second

// down says that the link went down: next time it may be another history.
func (e *epoch) down() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ups++
	e.newest, e.silent = 0, time.Time{}
}

// expired tells whether a watch begins at a version that upstream has not reached, or on what is kept of another history. Whoever has
// read the scope since the link is up knows this one's versions, whatever they are.
func (e *epoch) expired(c *call) bool {
	version, err := strconv.ParseUint(c.req.Options.ResourceVersion, 10, 64)
	if err != nil || version == 0 || c.req.Resource.Resource == "events" { // events often have an etcd of their own
		return false
	}
	info, kept := e.s.cfg.Store.Info(c.key())
	comparable := builtin(c.req.Resource.Group)
	if kept && e.read(info) || !kept && !comparable {
		return false
	}
	least := uint64(1)
	if comparable {
		least = version
	}
	newest := e.reached(c.r.Context(), least)
	if newest == 0 {
		return false // not known: upstream has the word
	}
	return comparable && version > newest || kept && e.foreign(info)
}

// read tells whether a scope was read since the link is up.
func (e *epoch) read(info scope.Info) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.newest != 0 && !info.Read.Before(e.since)
}

// foreign tells whether a scope was read before upstream was restored: it is of a history that did not happen.
func (e *epoch) foreign(info scope.Info) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return info.Read.Before(e.restored)
}

// reached gives the newest version that upstream is known to have reached, asked anew if that is less than version; 0 if it does not say.
func (e *epoch) reached(ctx context.Context, version uint64) uint64 {
	e.mu.Lock()
	if e.newest >= version {
		defer e.mu.Unlock()
		return e.newest
	}
	if time.Now().Before(e.silent) {
		e.mu.Unlock()
		return 0
	}
	if asking := e.asking; asking != nil {
		e.mu.Unlock()
		http2.Waiting(ctx)
		select {
		case <-ctx.Done():
			return 0
		case <-asking:
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.newest
	}
	asking, ups := make(chan struct{}), e.ups
	e.asking = asking
	if e.newest == 0 {
		e.since = e.s.cfg.Now()
	}
	e.mu.Unlock()
	newest := e.ask(ctx)
	e.learn(newest, ups)
	e.mu.Lock()
	e.asking = nil
	if newest == 0 {
		e.silent = time.Now().Add(askAgain)
	}
	e.mu.Unlock()
	close(asking)
	return newest
}

// ask asks upstream for its newest version: that of a consistent list.
func (e *epoch) ask(ctx context.Context) uint64 {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime) // others wait for it too
	defer cancel()
	resp, err := e.s.ask(ctx, newestPath, typeJSON+";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	scanner := wire.NewListScanner(scope.JSON, wire.Limits{}, func(scope.Item) error { return nil })
	if _, err := io.Copy(scanner, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return 0
	}
	list, err := scanner.Close()
	if err != nil {
		return 0
	}
	newest, _ := strconv.ParseUint(list.Version, 10, 64)
	return newest
}

// learn takes upstream's newest version. If what is kept is newer, upstream was restored.
func (e *epoch) learn(newest uint64, ups int) {
	if newest == 0 {
		return
	}
	e.mu.Lock()
	if e.ups != ups {
		e.mu.Unlock()
		return // the link went down meanwhile
	}
	first := e.newest == 0
	e.newest = max(e.newest, newest)
	e.mu.Unlock()
	if !first {
		return
	}
	ahead := false
	all := e.s.cfg.Store.Scopes("", scope.Resource{})
	for _, info := range all {
		version, err := strconv.ParseUint(info.Version, 10, 64)
		ahead = ahead || err == nil && version > newest && builtin(info.Key.Resource.Group)
	}
	if !ahead {
		return
	}
	e.s.log.Warn("the API server is at an older version than what is cached: its etcd was restored; everything is read anew", "version", newest)
	e.mu.Lock()
	e.restored = e.s.cfg.Now()
	e.mu.Unlock()
	for _, info := range all { // custom resources are in that etcd too; to read what an aggregated API server has once more does no harm
		e.s.cfg.Store.Dirty(info.Key, "the API server was restored from an older state")
	}
}

// builtin tells whether a group is served by kube-apiserver from its own etcd. Of others that is not known: aggregated API servers count
// their versions themselves.
func builtin(group string) bool {
	switch {
	case !strings.Contains(group, "."):
		return true
	case strings.HasSuffix(group, "metrics.k8s.io"):
		return false
	}
	return strings.HasSuffix(group, ".k8s.io")
}

// gone is what kube-apiserver says of a version that it does not have.
func gone(req request.Request) wire.Status {
	return status(http.StatusGone, "Expired", "holdfast: the API server was restored from an older state, which has no resource version "+req.Options.ResourceVersion+": list again")
}
