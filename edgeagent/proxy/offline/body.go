package offline

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/media"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Bounds of what is read of a request.
const (
	// maxBody is kube-apiserver's figure. Only the node writes objects here.
	maxBody = 3 << 20
	// maxQuestion is for what any pod may ask: a TokenReview with a large token has a few KiB.
	maxQuestion = 16 << 10
	// bodyTimeout is how long a body may take to come.
	bodyTimeout = 30 * time.Second
)

// readBody reads a request's body.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	control := http.NewResponseController(w)
	// A recorder in a test has no deadlines; every server's writer has.
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	defer control.SetReadDeadline(time.Time{})
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		if _, big := err.(*http.MaxBytesError); big {
			return nil, &failure{code: http.StatusRequestEntityTooLarge, reason: "RequestEntityTooLarge",
				message: fmt.Sprintf("Request entity too large: limit is %d", limit)}
		}
		return nil, badRequest("read body: %v", err)
	}
	return raw, nil
}

// objectOf reads a body that is one object. kind is what it must be if it does not say.
func objectOf(contentType string, raw []byte, apiVersion, kind string) (scope.Item, error) {
	mediaType := ""
	if contentType != "" {
		var err error
		if mediaType, _, err = mime.ParseMediaType(contentType); err != nil {
			return scope.Item{}, unsupportedType(contentType)
		}
	}
	encoding := scope.JSON
	switch mediaType {
	case "application/json", "":
	case protobufType:
		encoding = scope.Protobuf
	default:
		return scope.Item{}, unsupportedType(contentType)
	}
	item, err := wire.Object(encoding, apiVersion, kind, raw)
	if err != nil {
		return scope.Item{}, badRequest("read body: %v", err)
	}
	return item, nil
}

// readObject reads a request's body that is one object, as its item and as Go's maps.
func readObject(w http.ResponseWriter, r *http.Request, apiVersion, kind string, limit int64) (scope.Item, map[string]any, error) {
	raw, err := readBody(w, r, limit)
	if err != nil {
		return scope.Item{}, nil, err
	}
	item, err := objectOf(r.Header.Get("Content-Type"), raw, apiVersion, kind)
	if err != nil {
		return scope.Item{}, nil, err
	}
	decoded, err := decodeItem(item)
	if err != nil {
		return scope.Item{}, nil, badRequest("read body: %v", err)
	}
	return item, decoded, nil
}

func unsupportedType(contentType string) error {
	return &failure{code: http.StatusUnsupportedMediaType, reason: "UnsupportedMediaType",
		message: fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: application/json, %s; it is %q", protobufType, contentType)}
}

// into decodes an object into a Go value that has the few fields that matter.
func into(item scope.Item, v any) error {
	text, err := media.Convert(item, scope.JSON)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text.Raw, v); err != nil {
		return fmt.Errorf("read %s: %w", item.Kind, err)
	}
	return nil
}

// answerObject answers with an object made here of Go's maps.
func (h *Handler) answerObject(w http.ResponseWriter, r *http.Request, req request.Request, code int, object map[string]any) error {
	raw, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	apiVersion, _ := object["apiVersion"].(string)
	kind, _ := object["kind"].(string)
	item, err := wire.Object(scope.JSON, apiVersion, kind, raw)
	if err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return h.one(w, r, req, code, item)
}
