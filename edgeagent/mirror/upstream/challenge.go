package upstream

import (
	"strings"
)

// challenge is what a registry wants before it answers: one of a WWW-Authenticate header.
type challenge struct {
	scheme                string // "bearer" or "basic"
	realm, service, scope string
}

// pick finds the challenge to answer: a bearer token before a password, which travels less that way. nil means there is none that this
// client can answer.
func pick(headers []string) *challenge {
	var found *challenge
	for _, header := range headers {
		for _, c := range parseChallenges(header) {
			if c.scheme == "bearer" && c.realm != "" {
				return &c
			}
			if c.scheme == "basic" && found == nil {
				found = &c
			}
		}
	}
	return found
}

// parseChallenges reads a WWW-Authenticate header: schemes with parameters, all separated by commas (RFC 9110, 11.6.1). What it cannot
// read ends it: the challenges before count.
func parseChallenges(header string) []challenge {
	var out []challenge
	s := scanner{header}
	for {
		s.skip(" \t,")
		scheme := s.token()
		if scheme == "" {
			return out
		}
		if s.skip(" \t"); s.peek() == '=' {
			return out // a parameter that belongs to no scheme
		}
		c := challenge{scheme: strings.ToLower(scheme)}
		complete := s.parameters(&c)
		out = append(out, c)
		if !complete {
			return out
		}
	}
}

// scanner reads a header from its beginning.
type scanner struct{ rest string }

// parameters reads those of one challenge, up to the next scheme or the end. A token68, as other schemes have it, is passed over.
func (s *scanner) parameters(c *challenge) (complete bool) {
	for {
		s.skip(" \t,")
		before := *s
		name := s.token()
		if name == "" {
			return s.rest == ""
		}
		if s.skip(" \t"); s.peek() != '=' {
			*s = before // a scheme
			return true
		}
		s.rest = s.rest[1:]
		s.skip(" \t")
		value, fine := s.value()
		if !fine {
			return false
		}
		switch strings.ToLower(name) {
		case "realm":
			c.realm = value
		case "service":
			c.service = value
		case "scope":
			c.scope = value
		}
	}
}

// value reads a token or a quoted string.
func (s *scanner) value() (string, bool) {
	if s.peek() != '"' {
		v := s.token()
		return v, v != ""
	}
	var out strings.Builder
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			s.rest = s.rest[i+1:]
			return out.String(), true
		case c == '\\' && i+1 < len(s.rest):
			i++
			out.WriteByte(s.rest[i])
		default:
			out.WriteByte(c)
		}
	}
	return "", false
}

func (s *scanner) token() string {
	n := 0
	for n < len(s.rest) && isTokenByte(s.rest[n]) {
		n++
	}
	out := s.rest[:n]
	s.rest = s.rest[n:]
	return out
}

func (s *scanner) skip(any string) { s.rest = strings.TrimLeft(s.rest, any) }

// peek gives the next byte, or 0 at the end.
func (s *scanner) peek() byte {
	if s.rest == "" {
		return 0
	}
	return s.rest[0]
}

func isTokenByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
