package offline

import (
	"fmt"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/media"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// get answers a GET of one object.
func (h *Handler) get(w http.ResponseWriter, r *http.Request, req request.Request, caller Caller) error {
	item, read, known, err := h.find(req.Key(caller.Name))
	switch {
	case err != nil:
		return err
	case !known:
		return h.uncached(req, caller)
	case item.Name == "":
		return notFound(req)
	}
	if v := req.Options.ResourceVersion; v != "" && v != "0" {
		if ahead, ok := scope.Older(item.Version, v); ok && ahead {
			return tooLarge(v, item.Version)
		}
	}
	if item, err = h.seenBy(caller, req.Resource).see(item); err != nil {
		return err
	}
	h.age(w, read)
	return h.one(w, r, req, http.StatusOK, item)
}

// list answers a LIST with the whole of it: limit only says what the client would rather have.
func (h *Handler) list(w http.ResponseWriter, r *http.Request, req request.Request, caller Caller) error {
	if req.Options.Continue != "" {
		return &failure{code: http.StatusGone, reason: "Expired", message: "The provided continue parameter is too old to display a consistent list result. " +
			"You must start a new list without the continue parameter."}
	}
	key := keyOf(r, req, caller)
	info, ok := h.cover(key)
	if !ok {
		return h.uncached(req, caller)
	}
	begun := false
	var l local
	l.listen(h, r, req, caller, false)
	err := h.cfg.Store.Read(info.Key, func(info scope.Info, items iter.Seq2[scope.Item, error]) error {
		if err := checkVersion(h.known.least(r, req, info), info.Version); err != nil {
			return err
		}
		q, err := h.query(r, req, caller, key, info, items)
		if err != nil {
			return err
		}
		h.age(w, info.Read)
		begun = true
		body := media.Body(w, http.StatusOK, q.renderer.Format)
		if r.Method == http.MethodHead {
			return nil
		}
		control := http.NewResponseController(w)
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
		defer control.SetWriteDeadline(time.Time{})
		if err := q.renderer.List(body, wire.List{Kind: info.Kind, Version: info.Version}, q.items(items)); err != nil {
			return err
		}
		return body.Close()
	})
	if err != nil && begun {
		return h.cutOff(req, err)
	}
	if err == nil {
		l.caughtUp()
	}
	return err
}

// cutOff says in the log why an answer that has begun cannot be ended: the client must not take it for a whole one.
func (h *Handler) cutOff(req request.Request, err error) error {
	h.cfg.Log.Warn("cut off an answer", "verb", req.Verb, "path", req.Path, "err", err)
	panic(http.ErrAbortHandler)
}

// keyOf gives the scope that a list or watch reads. Who only wants metadata can be answered from metadata.
func keyOf(r *http.Request, req request.Request, caller Caller) scope.Key {
	key := req.Key(caller.Name)
	key.Metadata = strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata")
	return key
}

// query is one list or watch: what it selects from a scope, and in which form.
type query struct {
	renderer *media.Renderer
	match    media.Match // nil: everything
	view     view
}

// query prepares an answer. items serve to see how the scope's objects are encoded.
func (h *Handler) query(r *http.Request, req request.Request, caller Caller, key scope.Key, info scope.Info, items iter.Seq2[scope.Item, error]) (*query, error) {
	native := scope.JSON
	for item, err := range items {
		if err != nil {
			return nil, err
		}
		native = item.Encoding
		break
	}
	format, err := media.Negotiate(r, req, native)
	if err != nil {
		return nil, err
	}
	q := &query{
		renderer: &media.Renderer{Format: format, Kind: info.Kind, Resource: req.Resource, Now: h.cfg.Now},
		view:     h.seenBy(caller, req.Resource),
	}
	if format.As == media.Table {
		q.renderer.CRD = h.crd(req.Resource)
	}
	if info.Key != key {
		if q.match, err = media.Compile(key, info.Kind, h.crd(req.Resource)); err != nil {
			return nil, err
		}
	}
	return q, nil
}

// items gives the objects of a scope that the query selects, as its caller sees them.
func (q *query) items(items iter.Seq2[scope.Item, error]) iter.Seq2[scope.Item, error] {
	return func(yield func(scope.Item, error) bool) {
		for item, err := range items {
			selected := err == nil
			if selected {
				item, selected, err = q.take(item)
			}
			if (selected || err != nil) && (!yield(item, err) || err != nil) {
				return
			}
		}
	}
}

// take gives an object as the caller sees it, if the query selects it.
func (q *query) take(item scope.Item) (scope.Item, bool, error) {
	item, err := q.view.see(item)
	if err != nil || q.match == nil {
		return item, err == nil, err
	}
	ok, err := q.match(item)
	return item, ok, err
}

// checkVersion holds a list's resourceVersion against the scope's. A client that knows a newer state is never shown this one.
func checkVersion(o request.Options, version string) error {
	v := o.ResourceVersion
	if v == "" || v == "0" || v == version {
		return nil
	}
	ahead, ok := scope.Older(version, v)
	switch {
	case !ok:
		return badRequest("invalid resource version %q: it is not one that this cache can compare with %q", v, version)
	case ahead:
		return tooLarge(v, version)
	case o.Match == request.Exact:
		return &failure{code: http.StatusGone, reason: "Expired", message: "The resourceVersion for the provided list is too old."}
	}
	return nil
}

// tooLarge is the 504 that tells client-go that the server is behind it.
func tooLarge(v, current string) error {
	return &failure{code: http.StatusGatewayTimeout, reason: "Timeout", retry: 1,
		message: fmt.Sprintf("Too large resource version: %s, current: %s", v, current),
		causes:  []wire.Cause{{Reason: "ResourceVersionTooLarge", Message: "Too large resource version"}}}
}
