package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// leeway is how far clocks may differ, as the API server has it.
const leeway = time.Minute

// claims are those of a service account's token that matter here.
type claims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Expiry   *seconds `json:"exp"`
	Before   *seconds `json:"nbf"`
	Issued   *seconds `json:"iat"`
	Cluster  *struct {
		Namespace      string `json:"namespace"`
		ServiceAccount struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"serviceaccount"`
	} `json:"kubernetes.io"`
}

// name gives the identity of scopes, or "" if these are not a service account's claims. The subject is escaped so that no two
// pairs of subject and issuer have the same name.
func (c claims) name() string {
	if c.Issuer == "" || c.Cluster == nil || c.Cluster.Namespace == "" || c.Cluster.ServiceAccount.Name == "" ||
		c.Subject != "system:serviceaccount:"+c.Cluster.Namespace+":"+c.Cluster.ServiceAccount.Name {
		return ""
	}
	subject := strings.ReplaceAll(c.Subject, "%", "%25")
	return strings.ReplaceAll(subject, "@", "%40") + "@" + c.Issuer
}

// audience is one string or several.
type audience []string

// UnmarshalJSON takes both.
func (a *audience) UnmarshalJSON(raw []byte) error {
	if bytes.HasPrefix(raw, []byte(`"`)) {
		*a = make(audience, 1)
		return json.Unmarshal(raw, &(*a)[0])
	}
	return json.Unmarshal(raw, (*[]string)(a))
}

// has tells whether one of these is among the audiences.
func (a audience) has(wanted ...string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(wanted, s) })
}

// seconds is a time as tokens have it.
type seconds time.Time

// UnmarshalJSON takes a number, which may have a fraction.
func (s *seconds) UnmarshalJSON(raw []byte) error {
	var n float64
	if err := json.Unmarshal(raw, &n); err != nil {
		return err
	}
	if n < 0 || n > 253402300799 { // the year 9999
		return errors.New("a date is out of range")
	}
	*s = seconds(time.Unix(int64(n), 0))
	return nil
}

// token is a JSON Web Token in its parts.
type token struct {
	algorithm, keyID string
	signed           string // what the signature is of
	signature        []byte
	claims           claims
}

var errNoToken = errors.New("it is not a JSON Web Token")

// parse takes a token apart. It believes nothing.
func parse(raw string) (token, error) {
	if len(raw) > MaxToken {
		return token{}, errNoToken
	}
	head, rest, ok1 := strings.Cut(raw, ".")
	body, sig, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || strings.Contains(sig, ".") {
		return token{}, errNoToken
	}
	t := token{signed: raw[:len(head)+1+len(body)]}
	var header struct {
		Algorithm string          `json:"alg"`
		KeyID     string          `json:"kid"`
		Critical  json.RawMessage `json:"crit"`
	}
	strict := base64.RawURLEncoding.Strict()
	for _, part := range []struct {
		text string
		into any
	}{{head, &header}, {body, &t.claims}} {
		data, err := strict.DecodeString(part.text)
		if err != nil || json.Unmarshal(data, part.into) != nil {
			return token{}, errNoToken
		}
	}
	if header.Critical != nil {
		return token{}, errors.New("it has a header \"crit\", of which nothing is known")
	}
	var err error
	if t.signature, err = strict.DecodeString(sig); err != nil {
		return token{}, errNoToken
	}
	t.algorithm, t.keyID = header.Algorithm, header.KeyID
	return t, nil
}

// peek gives the claims of a token, unverified.
func peek(raw string) (claims, error) {
	t, err := parse(raw)
	return t.claims, err
}
