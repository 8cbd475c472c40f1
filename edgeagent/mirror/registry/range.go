package registry

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// part is what a client wants of a blob.
type part struct {
	from, length int64
	whole        bool
}

// part reads Range and If-Range. Several ranges at once are answered with the whole, as one may; a range that makes no sense is
// refused, so that nobody takes other bytes for those that were asked for.
func (c *call) part(size int64) (part, error) {
	header := c.r.Header.Get("Range")
	if header == "" {
		return part{0, size, true}, nil
	}
	if condition := c.r.Header.Get("If-Range"); condition != "" && condition != etag(c.target.ref.Digest) {
		return part{0, size, true}, nil
	}
	return parseRange(header, size)
}

func parseRange(header string, size int64) (part, error) {
	unit, set, found := strings.Cut(header, "=")
	if !found || !strings.EqualFold(strings.TrimSpace(unit), "bytes") || strings.Contains(set, ",") {
		return part{0, size, true}, nil
	}
	refused := &refusal{status: http.StatusRequestedRangeNotSatisfiable, code: codeRangeInvalid, message: "range " + strconv.Quote(header) + " is not in a blob of " + strconv.FormatInt(size, 10) + " bytes"}
	first, last, found := strings.Cut(strings.TrimSpace(set), "-")
	if !found {
		return part{}, refused
	}
	if first == "" { // the last so many bytes
		n, ok := position(last)
		if !ok || n == 0 || size == 0 {
			return part{}, refused
		}
		n = min(n, size)
		return part{from: size - n, length: n}, nil
	}
	from, ok := position(first)
	if !ok || from >= size {
		return part{}, refused
	}
	to := size - 1
	if last != "" {
		given, ok := position(last)
		if !ok || given < from {
			return part{}, refused
		}
		to = min(to, given)
	}
	return part{from: from, length: to - from + 1}, nil
}

// position reads digits and nothing else.
func position(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil
}

func etag(digest oci.Digest) string { return `"` + digest.String() + `"` }

// hasETag looks for a tag in the values of If-None-Match, where a weak one is as good.
func hasETag(values []string, tag string) bool {
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item == "*" || strings.TrimPrefix(item, "W/") == tag {
				return true
			}
		}
	}
	return false
}
