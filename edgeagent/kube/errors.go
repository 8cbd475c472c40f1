package kube

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// Error is an answer that is not the one asked for, or no answer. Match with errors.As.
type Error struct {
	// Reason is a stable reason of package condition: APIServerUnreachable, Unauthorized, Forbidden, NotFound, Conflict,
	// Invalid.
	Reason string
	// Code is the HTTP status; 0 if there was no answer.
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// StableReason gives the reason.
func (e *Error) StableReason() string { return e.Reason }

// answer makes an Error of a response with a status of 300 or more, whose body is usually a metav1.Status.
func answer(req *http.Request, resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var status struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(raw, &status) != nil || status.Message == "" {
		status.Message = http.StatusText(resp.StatusCode)
	}
	return statusError(resp.StatusCode, fmt.Errorf("%s %s: %d: %s", req.Method, req.URL.Path, resp.StatusCode, status.Message))
}

func statusError(code int, err error) *Error {
	reason := condition.ReasonAPIUnreachable
	switch code {
	case http.StatusUnauthorized:
		reason = condition.ReasonUnauthorized
	case http.StatusForbidden:
		reason = condition.ReasonForbidden
	case http.StatusNotFound, http.StatusGone:
		reason = condition.ReasonNotFound
	case http.StatusConflict:
		reason = condition.ReasonConflict
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		reason = condition.ReasonInvalid
	}
	return &Error{Reason: reason, Code: code, Err: err}
}
