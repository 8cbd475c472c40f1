package proxy

import (
	"net/http"
	"strings"
)

// hopByHop are headers that belong to one connection, not to the request.
var hopByHop = map[string]bool{
	"Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Http2-Settings": true,
	// The server answers it itself, before it hands the body out.
	"Expect": true,
}

// outward gives the headers that go upstream. The values are shared with the request's.
//
// X-Remote-* say who calls, to an API server that trusts the connection's certificate as an aggregator's: nobody may say that through us.
func outward(h http.Header, node bool) http.Header {
	named := connectionHeaders(h)
	out := make(http.Header, len(h)+1)
	for name, values := range h {
		switch {
		case hopByHop[name], named[name], strings.HasPrefix(name, "X-Remote-"):
		case node && name == "Authorization": // the node's credential upstream is the link's
		default:
			out[name] = values
		}
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = []string{""} // or Go's own would be sent
	}
	return out
}

// inward puts an answer's headers into dst.
func inward(dst, h http.Header) {
	named := connectionHeaders(h)
	for name, values := range h {
		if !hopByHop[name] && !named[name] {
			dst[name] = values
		}
	}
}

// connectionHeaders gives the headers that Connection names. They are hop-by-hop too; a client must not be able to name those that
// say who it is, or what for, away.
func connectionHeaders(h http.Header) map[string]bool {
	lines := h["Connection"]
	if len(lines) == 0 {
		return nil
	}
	out := map[string]bool{}
	for _, line := range lines {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if name != "Authorization" && !strings.HasPrefix(name, "Impersonate-") {
				out[name] = true
			}
		}
	}
	return out
}

// upgrade gives the protocol that a request asks for on its connection, "" if none.
func upgrade(h http.Header) string {
	for _, line := range h["Connection"] {
		for token := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "upgrade") {
				return h.Get("Upgrade")
			}
		}
	}
	return ""
}
