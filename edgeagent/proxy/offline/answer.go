package offline

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/media"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

const protobufType = "application/vnd.kubernetes.protobuf"

func asFailure(err error) (*failure, bool) {
	var f *failure
	if errors.As(err, &f) {
		return f, true
	}
	var e *request.Error
	if errors.As(err, &e) {
		f = &failure{code: e.Code, reason: e.Reason, message: e.Message}
		for _, c := range e.Causes {
			f.causes = append(f.causes, wire.Cause{Reason: c.Reason, Message: c.Message, Field: c.Field})
		}
		return f, true
	}
	return nil, false
}

// refuse answers with a Status. An error that is no failure is the cache's: what is kept cannot be read, and is not given
// out shorter than it was.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, req request.Request, err error) {
	if errors.Is(err, errGone) {
		return
	}
	f, ok := asFailure(err)
	if !ok {
		h.cfg.Log.Error("answer offline", "verb", req.Verb, "path", req.Path, "err", err)
		f = &failure{code: http.StatusServiceUnavailable, reason: "ServiceUnavailable", retry: 1,
			message: fmt.Sprintf("holdfast: offline, and the cache cannot answer for %s: %v", subject(req), err)}
	}
	encoding, contentType := scope.JSON, "application/json"
	if prefersProtobuf(r) {
		encoding, contentType = scope.Protobuf, protobufType
	}
	head := w.Header()
	head.Set("Content-Type", contentType)
	head.Set("Cache-Control", "no-cache, private")
	if f.retry > 0 {
		head.Set("Retry-After", strconv.Itoa(f.retry))
	}
	w.WriteHeader(f.code)
	if r.Method != http.MethodHead {
		_, _ = w.Write(wire.AppendStatus(nil, encoding, f.status(req)))
	}
}

// errGone: the client is not there any more, or the answer has begun and cannot be taken back.
var errGone = errors.New("the answer was cut off")

// prefersProtobuf tells whether a client would rather have errors in protobuf: client-go's typed clients, as the kubelet.
func prefersProtobuf(r *http.Request) bool {
	first, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
	kind, _, _ := strings.Cut(first, ";")
	return strings.TrimSpace(kind) == protobufType
}

// age puts on an answer that it is one from the cache, and how old.
func (h *Handler) age(w http.ResponseWriter, read time.Time) {
	head := w.Header()
	head.Set("Cache-Control", "no-cache, private")
	if read.IsZero() {
		head.Set("Warning", `299 - "holdfast: offline; as of a time that is not known"`)
		return
	}
	head["Warning"] = []string{`299 - "holdfast: offline; as of ` + read.UTC().Format(time.RFC3339) + `"`}
	head["Holdfast-Cache-Age"] = []string{strconv.FormatInt(max(0, int64(h.cfg.Now().Sub(read)/time.Second)), 10)}
}

// one answers with one object.
func (h *Handler) one(w http.ResponseWriter, r *http.Request, req request.Request, code int, item scope.Item) error {
	// A request whose verb has no negotiation of its own answers with one object, as a GET does.
	asked := req
	asked.Verb = "get"
	format, err := media.Negotiate(r, asked, item.Encoding)
	if err != nil {
		return err
	}
	renderer := media.Renderer{Format: format, Kind: scope.Kind{APIVersion: item.APIVersion, Kind: item.Kind}, Resource: req.Resource, Now: h.cfg.Now}
	if format.As == media.Table {
		renderer.CRD = h.crd(req.Resource)
	}
	raw, err := renderer.Object(item)
	if err != nil {
		return err
	}
	body := media.Body(w, code, format)
	if r.Method == http.MethodHead {
		return nil
	}
	if _, err := body.Write(raw); err != nil {
		return errGone
	}
	if err := body.Close(); err != nil {
		return errGone
	}
	return nil
}

// crd gives the definition of a custom resource if the node has read it: it names a Table's columns and what may be selected.
func (h *Handler) crd(r scope.Resource) scope.Item {
	if !strings.Contains(r.Group, ".") || strings.HasSuffix(r.Group, ".k8s.io") {
		return scope.Item{}
	}
	item, _, _, err := h.find(scope.Key{
		Identity: h.node(), Resource: scope.Resource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
		Name: r.Resource + "." + r.Group,
	})
	if err != nil {
		return scope.Item{}
	}
	return item
}
