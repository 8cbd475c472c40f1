package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// commit is a parsed commit object.
type commit struct {
	id      string
	raw     []byte
	tree    string
	parents []string
	// date is the committer's.
	date time.Time
	// signatures are the values of gpgsig and gpgsig-sha256, unfolded.
	signatures []signatureHeader
	// payload is what the signature is over: raw without that header.
	payload []byte
	subject string
}

type signatureHeader struct{ name, value string }

// firstParent gives "" for a commit without parents.
func (c *commit) firstParent() string {
	if len(c.parents) == 0 {
		return ""
	}
	return c.parents[0]
}

// payloadSum names the commit whatever its signature is encoded as.
func (c *commit) payloadSum() string {
	sum := sha256.Sum256(c.payload)
	return hex.EncodeToString(sum[:])
}

// maxDate bounds committer dates to what four digits of a year can say.
const maxDate = 253402300799

// parseCommit reads a commit object strictly: tree, parents, author, committer, other headers, an empty line, the
// message. What Git's own programs would not write is an error, so that no two readers see two things.
func parseCommit(raw []byte) (*commit, error) {
	c := &commit{raw: raw}
	rest := raw
	var err error
	if c.tree, rest, err = idLine(rest, "tree"); err != nil {
		return nil, err
	}
	for bytes.HasPrefix(rest, []byte("parent ")) {
		var p string
		if p, rest, err = idLine(rest, "parent"); err != nil {
			return nil, err
		}
		c.parents = append(c.parents, p)
	}
	if _, rest, err = personLine(rest, "author"); err != nil {
		return nil, err
	}
	if c.date, rest, err = personLine(rest, "committer"); err != nil {
		return nil, err
	}
	head := raw[:len(raw)-len(rest)]
	others, message, err := c.otherHeaders(rest)
	if err != nil {
		return nil, err
	}
	if len(c.signatures) > 0 {
		c.payload = bytes.Join([][]byte{head, others, message}, nil)
	} else {
		c.payload = raw
	}
	c.subject = subject(message)
	return c, nil
}

// idLine reads "name <40 hex digits>\n".
func idLine(raw []byte, name string) (id string, rest []byte, err error) {
	line, rest, ok := bytes.Cut(raw, []byte("\n"))
	value, named := strings.CutPrefix(string(line), name+" ")
	if !ok || !named || !isID(value) {
		return "", nil, fmt.Errorf("no line %q with an object id where it belongs", name)
	}
	return value, rest, nil
}

// personLine reads "name Full Name <mail> <seconds> <+hhmm>\n".
func personLine(raw []byte, name string) (time.Time, []byte, error) {
	line, rest, ok := bytes.Cut(raw, []byte("\n"))
	value, named := strings.CutPrefix(string(line), name+" ")
	bad := fmt.Errorf("no line %q with name, mail address, seconds and time zone where it belongs", name)
	if !ok || !named {
		return time.Time{}, nil, bad
	}
	who, when, ok := strings.Cut(value, "> ")
	if !ok || strings.Count(who, "<") != 1 || strings.ContainsAny(who, ">\x00") {
		return time.Time{}, nil, bad
	}
	digits, zone, ok := strings.Cut(when, " ")
	if !ok || !isZone(zone) || digits == "" || (digits[0] == '0' && len(digits) > 1) || strings.Trim(digits, "0123456789") != "" {
		return time.Time{}, nil, bad
	}
	secs, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || secs > maxDate {
		return time.Time{}, nil, fmt.Errorf("the date of line %q is out of range", name)
	}
	return time.Unix(secs, 0).UTC(), rest, nil
}

func isZone(s string) bool {
	return len(s) == 5 && (s[0] == '+' || s[0] == '-') && strings.Trim(s[1:], "0123456789") == ""
}

// otherHeaders reads the headers behind the committer. It gives them without the signatures, and the empty line with
// the message.
func (c *commit) otherHeaders(raw []byte) (others, message []byte, err error) {
	rest := raw
	for {
		if len(rest) == 0 {
			return others, nil, nil // git writes the empty line always, but its hash-object does not ask for one
		}
		if rest[0] == '\n' {
			return others, rest, nil
		}
		length, err := headerLength(rest)
		if err != nil {
			return nil, nil, err
		}
		header := rest[:length]
		rest = rest[length:]
		name, value, _ := strings.Cut(string(header), " ")
		switch name {
		case "tree", "parent", "author", "committer":
			return nil, nil, fmt.Errorf("a second line %q, or one out of place", name)
		case "gpgsig", "gpgsig-sha256":
			c.signatures = append(c.signatures, signatureHeader{name: name, value: strings.ReplaceAll(value, "\n ", "\n")})
		default:
			others = append(others, header...)
		}
	}
}

// headerLength gives the length of the header that raw begins with, with the lines that continue it.
func headerLength(raw []byte) (int, error) {
	name, _, ok := bytes.Cut(raw, []byte(" "))
	if !ok || len(name) == 0 {
		return 0, errors.New("a header without a value")
	}
	for _, b := range name {
		if b <= ' ' || b >= 0x7f {
			return 0, errors.New("a header whose name is not plain ASCII")
		}
	}
	for n := 0; ; {
		end := bytes.IndexByte(raw[n:], '\n')
		if end < 0 {
			return 0, errors.New("a header that does not end")
		}
		if bytes.IndexByte(raw[n:n+end], 0) >= 0 {
			return 0, errors.New("a NUL in a header")
		}
		if n += end + 1; n >= len(raw) || raw[n] != ' ' {
			return n, nil
		}
	}
}

// subject gives the message's first line, fit for a terminal.
func subject(message []byte) string {
	line, _, _ := strings.Cut(strings.TrimLeft(string(message), "\n"), "\n")
	line = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(line, "?"))
	if r := []rune(line); len(r) > 72 {
		return string(r[:71]) + "…"
	}
	return line
}
