package upstream

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Kind says in which way a registry failed. errors.Is finds it in an Error.
type Kind string

// The kinds.
const (
	// NotFound: the registry says that there is no such thing.
	NotFound Kind = "not found"
	// Unauthorized: it wants another credential, or one at all.
	Unauthorized Kind = "not authorized"
	// Denied: it knows who asks and does not allow it.
	Denied Kind = "denied"
	// RateLimited: it was asked too often. Error.RetryAfter says how long it wants to be left alone, if it said.
	RateLimited Kind = "rate limited"
	// Unavailable: it cannot be connected, or could not lately.
	Unavailable Kind = "cannot be connected"
	// Broken: it answered that it failed itself, with 5xx.
	Broken Kind = "broken"
	// ErrorPage: it answered with success, and with something that cannot be what was asked for: an error page, a wrong length, a
	// wrong digest.
	ErrorPage Kind = "answered with something else"
	// Stalled: it was connected and then said nothing for Config.Idle.
	Stalled Kind = "stalled"
	// Dropped: the connection ended before the answer did.
	Dropped Kind = "broke off"
	// Refused: it wants something that this client does not do, such as following it to a private address.
	Refused Kind = "asks for what is not allowed"
	// Unexpected: it answered in a way that the distribution specification does not know.
	Unexpected Kind = "unexpected answer"
)

// Error makes a Kind something that errors.Is can look for.
func (k Kind) Error() string { return string(k) }

// Error is what went wrong with one request.
type Error struct {
	Kind     Kind
	Registry string // its name
	Doing    string // what was asked for
	// Status is the HTTP status; 0 if there was no answer or it does not matter.
	Status int
	// RetryAfter is 0 if the registry did not say.
	RetryAfter time.Duration
	Err        error
}

// Error says where, what and why.
func (e *Error) Error() string {
	return fmt.Sprintf("registry %s: %s: %s: %v", e.Registry, e.Doing, e.Kind, e.Err)
}

// Unwrap gives the kind and the cause.
func (e *Error) Unwrap() []error { return []error{e.Kind, e.Err} }

func (l *link) fail(kind Kind, doing string, err error) *Error {
	return &Error{Kind: kind, Registry: l.cfg.Name, Doing: doing, Err: err}
}

// failf is fail for what the client itself found.
func (l *link) failf(kind Kind, doing, format string, args ...any) *Error {
	return l.fail(kind, doing, fmt.Errorf(format, args...))
}

// statusError makes an Error of an answer that is no success. It reads the body and leaves it open.
func (l *link) statusError(doing string, resp *http.Response) *Error {
	e := l.failf(Unexpected, doing, "it answered %d%s", resp.StatusCode, explain(resp))
	e.Status = resp.StatusCode
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		e.Kind = NotFound
	case resp.StatusCode == http.StatusUnauthorized:
		e.Kind = Unauthorized
	case resp.StatusCode == http.StatusForbidden:
		e.Kind = Denied
	case resp.StatusCode == http.StatusTooManyRequests:
		e.Kind = RateLimited
		e.RetryAfter = retryAfter(resp.Header)
	case resp.StatusCode >= 500:
		e.Kind = Broken
		e.RetryAfter = retryAfter(resp.Header)
	}
	return e
}

// explain gives what a registry says of an error, as its specification has it. It is untrusted: short, quoted, on one line.
func explain(resp *http.Response) string {
	const most = 200
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 16<<10)) // the status says enough if this fails
	var body struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
		Details string `json:"details"` // of token servers
	}
	if json.Unmarshal(raw, &body) != nil {
		return ""
	}
	said := body.Details
	if len(body.Errors) > 0 {
		said = strings.Trim(body.Errors[0].Code+": "+body.Errors[0].Message, ": ")
	}
	if said == "" {
		return ""
	}
	return fmt.Sprintf(": %q", said[:min(len(said), most)])
}

// retryAfter reads how long to wait, at most a day. A date is compared with the registry's own clock: the node's may be wrong.
func retryAfter(h http.Header) time.Duration {
	const most = 24 * time.Hour
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, most)
	}
	then, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	return min(max(then.Sub(now), 0), most)
}
