package identity

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// Where the API server publishes what its tokens are verified with. Nodes may read both if `holdfast install` ran.
const (
	JWKSPath      = "/openid/v1/jwks"
	DiscoveryPath = "/.well-known/openid-configuration"
)

// maxVerified bounds how many verified tokens are remembered: verifying a signature costs more than the answer.
const maxVerified = 512

// keySet is what tokens are verified with, as the documents had it.
type keySet struct {
	jwks, discovery []byte
	issuer          string
	keys            []publicKey
}

func (a *Authenticator) verify(c Caller) error {
	set, err := a.current()
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(c.Token))
	a.mu.Lock()
	known, ok := a.verified[sum]
	ok = ok && a.keys == set
	a.mu.Unlock()
	if !ok {
		if known, err = set.verify(c.Token); err != nil {
			return err
		}
	}
	if err := a.holds(known, set.issuer); err != nil {
		return err
	}
	if !ok {
		a.remember(set, sum, known)
	}
	return nil
}

// current gives the keys of the documents as they are now.
func (a *Authenticator) current() (*keySet, error) {
	jwks, discovery := a.cfg.Document(JWKSPath), a.cfg.Document(DiscoveryPath)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.keys != nil && bytes.Equal(a.keys.jwks, jwks) && bytes.Equal(a.keys.discovery, discovery) {
		return a.keys, nil
	}
	if jwks == nil || discovery == nil {
		return nil, unauthenticated("the token cannot be verified without the API server: its keys were never read; `holdfast install` lets nodes read %s", JWKSPath)
	}
	set := &keySet{jwks: bytes.Clone(jwks), discovery: bytes.Clone(discovery)}
	var document struct {
		Issuer string `json:"issuer"`
	}
	err := json.Unmarshal(discovery, &document)
	if err == nil {
		set.issuer = document.Issuer
		set.keys, err = parseKeys(jwks)
	}
	if err != nil || set.issuer == "" {
		return nil, unauthenticated("the token cannot be verified without the API server: what it published at %s or %s is not usable", DiscoveryPath, JWKSPath)
	}
	a.keys, a.verified = set, map[[sha256.Size]byte]claims{}
	return set, nil
}

// remember keeps a token that was verified. A full memory is emptied by half: it fills again at the price of a signature each.
func (a *Authenticator) remember(set *keySet, sum [sha256.Size]byte, c claims) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.keys != set {
		return
	}
	if len(a.verified) >= maxVerified {
		drop := slices.Collect(maps.Keys(a.verified))[:maxVerified/2]
		for _, sum := range drop {
			delete(a.verified, sum)
		}
	}
	a.verified[sum] = c
	if c.Issued != nil && time.Time(*c.Issued).After(a.newest) {
		a.newest = time.Time(*c.Issued)
	}
}

// verify checks the signature.
func (s *keySet) verify(raw string) (claims, error) {
	t, err := parse(raw)
	if err != nil {
		return claims{}, unauthenticated("the token cannot be verified without the API server: %v", err)
	}
	if !slices.Contains(algorithms, t.algorithm) {
		return claims{}, unauthenticated("the token is signed with %.20q: only %s are taken", t.algorithm, strings.Join(algorithms, ", "))
	}
	found := false
	for _, k := range s.keys {
		if !k.fits(t.algorithm, t.keyID) {
			continue
		}
		found = true
		if k.verify(t) {
			return t.claims, nil
		}
	}
	if !found {
		return claims{}, unauthenticated("the token is signed with the key %.64q, which was not among the API server's when it was last read", t.keyID)
	}
	return claims{}, unauthenticated("the token's signature is wrong")
}

// holds checks what a genuine token says. A token's own date of issue is evidence of the time: a clock that is behind it is
// wrong, so no token is too new.
func (a *Authenticator) holds(c claims, issuer string) error {
	now := a.now()
	if c.Issued != nil && time.Time(*c.Issued).After(now) {
		now = time.Time(*c.Issued)
	}
	switch {
	case c.Issuer != issuer:
		return unauthenticated("the token is of the issuer %.100q, the cluster's is %q", c.Issuer, issuer)
	case c.name() == "" || c.Cluster.ServiceAccount.UID == "":
		return unauthenticated("the token is no service account's")
	case !c.Audience.has(issuer) && !c.Audience.has(a.cfg.Audiences...):
		return unauthenticated("the token is for the audience %.200q, not for the API server", []string(c.Audience))
	case c.Expiry == nil:
		return unauthenticated("the token has no date of expiry")
	case now.After(time.Time(*c.Expiry).Add(leeway)):
		return unauthenticated("the token expired at %s", time.Time(*c.Expiry).UTC().Format(time.RFC3339))
	case c.Before != nil && now.Add(leeway).Before(time.Time(*c.Before)):
		return unauthenticated("the token is not valid before %s", time.Time(*c.Before).UTC().Format(time.RFC3339))
	}
	return nil
}

// now gives the latest time that there is evidence of.
func (a *Authenticator) now() time.Time {
	now := a.cfg.Now()
	if t := a.cfg.Newest(); t.After(now) {
		now = t
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.newest.After(now) {
		now = a.newest
	}
	return now
}
