package proxy

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

const (
	typeJSON     = "application/json"
	typeProtobuf = "application/vnd.kubernetes.protobuf"
)

// refuse answers with a metav1.Status, in the encoding that the client reads.
func refuse(w http.ResponseWriter, r *http.Request, st wire.Status) {
	encoding, contentType := scope.JSON, typeJSON
	if accept := r.Header.Get("Accept"); strings.HasPrefix(accept, typeProtobuf) {
		encoding, contentType = scope.Protobuf, typeProtobuf
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-cache, private")
	h.Set("X-Content-Type-Options", "nosniff")
	if st.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(st.RetryAfter))
	}
	body := wire.AppendStatus(nil, encoding, st)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(st.Code)
	if r.Method != http.MethodHead {
		w.Write(body)
	}
}

func status(code int, reason, message string) wire.Status {
	return wire.Status{Code: code, Reason: reason, Message: message}
}

// unauthorized is a 401.
func unauthorized(why string) wire.Status {
	return status(http.StatusUnauthorized, "Unauthorized", "Unauthorized: "+why)
}
