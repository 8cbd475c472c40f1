package http2

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// lowered are names of headers as HTTP/2 has them, by their canonical form.
var lowered = func() map[string]string {
	out := map[string]string{}
	for _, name := range []string{
		"age", "audit-id", "cache-control", "connection", "content-encoding", "content-length", "content-type", "date", "etag", "last-modified", "location",
		"retry-after", "strict-transport-security", "transfer-encoding", "vary", "warning", "www-authenticate", "x-content-type-options",
		"x-kubernetes-pf-flowschema-uid", "x-kubernetes-pf-prioritylevel-uid", "x-varied-accept",
	} {
		out[http.CanonicalHeaderKey(name)] = name
	}
	return out
}()

// lower gives a header's name in lower case, "" if it is none.
func lower(name string) string {
	if low, ok := lowered[name]; ok {
		return low
	}
	if !httpguts.ValidHeaderFieldName(name) {
		return ""
	}
	return strings.ToLower(name)
}

// hop tells which headers do not belong into HTTP/2.
func hop(name string) bool {
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// unique tells which headers are hardly ever the same twice. They are not kept for the next answer, which costs more than it spares.
func unique(name string) bool {
	switch name {
	case "audit-id", "content-length", "date", "etag", "age", "location":
		return true
	}
	return false
}
