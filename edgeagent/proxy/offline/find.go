package offline

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/selector"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// find looks for one object, as upstream stored it, in everything that the identity has read of the resource. The newest scope that
// can tell has the last word: that the object is gone is also a word, if the scope would have it. known is false if no scope can
// tell; then the object is not missing, it was never asked for. Where a damaged scope would have had the last word, an older scope
// may still have the object, but cannot say that there is none.
func (h *Handler) find(key scope.Key) (item scope.Item, read time.Time, known bool, err error) {
	infos := h.cfg.Store.Scopes(key.Identity, key.Resource)
	var damaged error
	for {
		info := takeNewest(infos, &key)
		if info == nil {
			return scope.Item{}, time.Time{}, false, damaged
		}
		item, ok, err := h.cfg.Store.Get(info.Key, key.Namespace, key.Name)
		switch {
		case err != nil:
			damaged = fmt.Errorf("read %s of %s: %w", key.Name, key.Resource, err)
		case ok:
			return item, info.Read, true, nil
		case damaged == nil && selector.Covers(info.Key, key):
			return scope.Item{}, info.Read, true, nil
		}
		info.Key.Identity = "" // seen
	}
}

// takeNewest gives the newest of the scopes that may hold an object. There are one or two, so nothing is sorted. A GET's scope has its
// object's version, which may be older than what upstream last confirmed: if another scope is newer than that, it has seen all that
// happened to the object until then.
func takeNewest(infos []scope.Info, wanted *scope.Key) (newest *scope.Info) {
	for i := range infos {
		info := &infos[i]
		if info.Key.Identity == wanted.Identity && mayHold(&info.Key, wanted) && (newest == nil || newer(info, newest)) {
			newest = info
		}
	}
	return newest
}

// newer tells whether a scope is of a newer state than another.
func newer(a, b *scope.Info) bool {
	if a.Version == b.Version {
		return b.Read.Before(a.Read)
	}
	return older(b.Version, a.Version, b.Read.Before(a.Read))
}

// older compares versions; if they are no numbers, as with some aggregated APIs, what was read earlier is older.
func older(a, b string, earlier bool) bool {
	if is, ok := scope.Older(a, b); ok {
		return is
	}
	return earlier
}

// mayHold tells whether a scope can have an object at all: it saves looking for one Secret in the scopes of two hundred others.
func mayHold(k, wanted *scope.Key) bool {
	if k.Metadata || k.Namespace != "" && k.Namespace != wanted.Namespace {
		return false
	}
	if k.Name != "" {
		return k.Name == wanted.Name && k.Namespace == wanted.Namespace
	}
	if strings.HasPrefix(k.Fields, byName) && !strings.ContainsAny(k.Fields, ",\\") {
		return k.Fields[len(byName):] == wanted.Name
	}
	return true
}

// byName begins the selector of a scope that has one object.
const byName = "metadata.name="

// cover gives the newest scope that holds everything that a list or watch asks for.
func (h *Handler) cover(key scope.Key) (best scope.Info, ok bool) {
	for _, info := range h.cfg.Store.Scopes(key.Identity, key.Resource) {
		if info.Key.Name != "" || !mayCover(&info.Key, &key) || !selector.Covers(info.Key, key) {
			continue
		}
		if !ok || newer(&info, &best) || info.Key == key && !newer(&best, &info) {
			best, ok = info, true
		}
	}
	return best, ok
}

// mayCover tells whether a scope can have all that is asked for: a kubelet has a scope of its own for every Secret, and to parse the
// selectors of two hundred for each of them took most of a selftest. Selectors are canonical, so that a name that is asked for is there
// to the letter.
func mayCover(k, wanted *scope.Key) bool {
	if !strings.HasPrefix(k.Fields, byName) || strings.ContainsAny(k.Fields, ",\\") {
		return true
	}
	return strings.Contains(wanted.Fields, k.Fields) || k.Fields[len(byName):] == wanted.Name
}
