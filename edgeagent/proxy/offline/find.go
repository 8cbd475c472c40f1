package offline

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/selector"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// find looks for one object, as upstream stored it, in everything that the identity has read of the resource. If several scopes
// know of the object the newest word counts; that it is gone is also a word, if the scope would have it. known is false if no
// scope can tell; then the object is not missing, it was never asked for.
func (h *Handler) find(key scope.Key) (item scope.Item, read time.Time, known bool, err error) {
	var best, broken word
	for _, info := range h.cfg.Store.Scopes(key.Identity, key.Resource) {
		if !mayHold(info.Key, key) {
			continue
		}
		found, ok, err := h.cfg.Store.Get(info.Key, key.Namespace, key.Name)
		switch {
		case err != nil:
			broken.hear(word{info: info, err: err})
		case ok:
			best.hear(word{info: info, item: found, here: true})
		case selector.Covers(info.Key, key):
			best.hear(word{info: info})
		}
	}
	switch {
	case broken.err != nil && (!best.said || newer(broken.info, best.info)):
		return scope.Item{}, time.Time{}, false, fmt.Errorf("read %s of %s: %w", key.Name, key.Resource, broken.err)
	case !best.said:
		return scope.Item{}, time.Time{}, false, nil
	}
	return best.item, best.info.Read, true, nil
}

// word is what one scope says of an object.
type word struct {
	said, here bool
	info       scope.Info
	item       scope.Item
	err        error
}

// hear takes another scope's word if it is newer. An object in hand also counts by its own version: of two scopes that have it,
// the one with the newer object is right whatever else they say.
func (w *word) hear(other word) {
	other.said = true
	switch {
	case !w.said:
		*w = other
	case w.here && other.here && w.item.Version != other.item.Version:
		if older(w.item.Version, other.item.Version, w.info.Read.Before(other.info.Read)) {
			*w = other
		}
	case newer(other.info, w.info):
		*w = other
	}
}

// newer tells whether a scope is of a newer state than another.
func newer(a, b scope.Info) bool {
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
func mayHold(k, wanted scope.Key) bool {
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
		if info.Key.Name != "" || !selector.Covers(info.Key, key) {
			continue
		}
		if !ok || newer(info, best) || info.Key == key && !newer(best, info) {
			best, ok = info, true
		}
	}
	return best, ok
}
