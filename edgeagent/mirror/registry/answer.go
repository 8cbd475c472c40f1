package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/upstream"
)

// The error codes of the distribution specification, and two that everybody uses beside them.
const (
	codeBlobUnknown       = "BLOB_UNKNOWN"
	codeDenied            = "DENIED"
	codeDigestInvalid     = "DIGEST_INVALID"
	codeManifestInvalid   = "MANIFEST_INVALID"
	codeManifestUnknown   = "MANIFEST_UNKNOWN"
	codeNameInvalid       = "NAME_INVALID"
	codeNameUnknown       = "NAME_UNKNOWN"
	codePaginationInvalid = "PAGINATION_NUMBER_INVALID"
	codeRangeInvalid      = "RANGE_INVALID"
	codeUnauthorized      = "UNAUTHORIZED"
	codeUnsupported       = "UNSUPPORTED"
	codeUnavailable       = "UNAVAILABLE"
	codeUnknown           = "UNKNOWN"
)

// refusal is an answer that is an error.
type refusal struct {
	status        int
	code, message string
	challenge     bool
	retryAfter    time.Duration
}

// Error is the message.
func (r *refusal) Error() string { return r.message }

// json answers with a document.
func (c *call) json(mediaType string, document any) error {
	raw, err := json.Marshal(document)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", mediaType)
	c.whole(raw)
	return nil
}

// whole answers with a body that is at hand.
func (c *call) whole(body []byte) {
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(http.StatusOK)
	if c.r.Method != http.MethodHead {
		c.patient()
		c.w.Write(body) // who does not hear has left
		c.relax()
	}
}

// patient bounds the time in which the client must take something of the answer. Not every server can.
func (c *call) patient() {
	http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(c.cfg.Stall))
}

// relax ends what patient began: the connection may be used for longer.
func (c *call) relax() { http.NewResponseController(c.w).SetWriteDeadline(time.Time{}) }

// refuse answers with an error.
func (c *call) refuse(err error) {
	if c.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		panic(http.ErrAbortHandler) // nobody is there to hear it, or the server ends: no answer must look like one
	}
	r := c.refusal(err)
	if r.challenge {
		c.w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Basic realm="mirror of %s"`, c.target.ref.Registry))
	}
	if r.retryAfter > 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(int((r.retryAfter+time.Second-1)/time.Second)))
	}
	type item struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	body, _ := json.Marshal(struct { // strings always become JSON
		Errors []item `json:"errors"`
	}{[]item{{r.code, r.message}}})
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(r.status)
	if c.r.Method != http.MethodHead {
		c.w.Write(body)
	}
}

// refusal says what an error means to a client. A miss is 404, so that containerd goes on to the next host at once; 429 would keep it
// here; 5xx is for what is the truth about a registry that answers.
func (c *call) refusal(err error) *refusal {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	r := &refusal{message: err.Error()}
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		r.retryAfter = e.RetryAfter
	}
	switch {
	case errors.Is(err, upstream.NotFound), errors.Is(err, upstream.Unavailable), errors.Is(err, ErrNotKept):
		r.status, r.code, r.retryAfter = http.StatusNotFound, c.unknown(), 0
	case errors.Is(err, upstream.Unauthorized):
		r.status, r.code, r.challenge = http.StatusUnauthorized, codeUnauthorized, true
	case errors.Is(err, upstream.Denied):
		r.status, r.code = http.StatusForbidden, codeDenied
	case errors.Is(err, upstream.RateLimited):
		r.status, r.code = http.StatusServiceUnavailable, codeUnavailable
		r.retryAfter = max(r.retryAfter, time.Second)
	case errors.Is(err, upstream.Stalled):
		r.status, r.code = http.StatusGatewayTimeout, codeUnavailable
	case isUpstream(err):
		r.status, r.code = http.StatusBadGateway, codeUnavailable
	default:
		r.status, r.code = http.StatusInternalServerError, codeUnknown
	}
	return r
}

func isUpstream(err error) bool {
	_, ok := errors.AsType[upstream.Kind](err)
	return ok
}

func (c *call) unknown() string {
	switch c.target.kind {
	case Blob:
		return codeBlobUnknown
	case Manifest:
		return codeManifestUnknown
	}
	return codeNameUnknown
}
