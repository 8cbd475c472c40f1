package request

import (
	"net/url"
	"strings"
)

// Lasts tells whether a GET may be answered by a stream that goes on for long: a watch in any of its spellings, or a log that is
// followed. It says yes where it is not sure, and does not parse.
func Lasts(u *url.URL) bool {
	if strings.Contains(u.Path, "/watch/") {
		return true
	}
	for query := u.RawQuery; query != ""; {
		var part string
		part, query, _ = strings.Cut(query, "&")
		key, _, _ := strings.Cut(part, "=")
		if key == "watch" || key == "follow" || strings.ContainsAny(key, "%+;") {
			return true
		}
	}
	return false
}
