package offline

import (
	"fmt"
	"net/http"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// unavailable is the honest 503.
func (h *Handler) unavailable(req request.Request, why string) error {
	return &failure{code: http.StatusServiceUnavailable, reason: "ServiceUnavailable", retry: 1,
		message: fmt.Sprintf("holdfast: offline: %s of %s: %s", verb(req), subject(req), why)}
}

// uncached is a 503 for what was never read.
func (h *Handler) uncached(req request.Request, caller Caller) error {
	return h.unavailable(req, "it was not read by "+caller.Name+" while online, so whether it exists is not known here")
}

func verb(req request.Request) string {
	if req.Verb == "" {
		return "request"
	}
	return req.Verb
}

// subject names what a request is about, as kubectl does.
func subject(req request.Request) string {
	text := req.Resource.String()
	if req.Name != "" {
		name := req.Name
		if req.Namespace != "" {
			name = req.Namespace + "/" + name
		}
		text += " " + name
	} else if req.Namespace != "" {
		text += " in " + req.Namespace
	}
	if req.Subresource != "" {
		text += "/" + req.Subresource
	}
	return text
}

// failure is an answer that is no success.
type failure struct {
	code            int
	reason, message string
	retry           int
	causes          []wire.Cause
	// names: the Status names the object of the request.
	names bool
}

func (f *failure) Error() string { return f.message }

func (f *failure) status(req request.Request) wire.Status {
	s := wire.Status{Code: f.code, Reason: f.reason, Message: f.message, RetryAfter: f.retry, Causes: f.causes}
	if f.names {
		s.Group, s.Kind, s.Name = req.Resource.Group, req.Resource.Resource, req.Name
	}
	return s
}

// notFound is a 404 in kube-apiserver's words.
func notFound(req request.Request) error {
	return &failure{code: http.StatusNotFound, reason: "NotFound", names: true,
		message: fmt.Sprintf("%s %q not found", qualified(req.Resource), req.Name)}
}

func conflict(req request.Request, why string) error {
	return &failure{code: http.StatusConflict, reason: "Conflict", names: true,
		message: fmt.Sprintf("Operation cannot be fulfilled on %s %q: %s", qualified(req.Resource), req.Name, why)}
}

func badRequest(format string, args ...any) error {
	return &failure{code: http.StatusBadRequest, reason: "BadRequest", message: fmt.Sprintf(format, args...)}
}

// qualified gives "pods" or "deployments.apps", as kube-apiserver's messages do.
func qualified(r scope.Resource) string {
	if r.Group == "" {
		return r.Resource
	}
	return r.Resource + "." + r.Group
}
