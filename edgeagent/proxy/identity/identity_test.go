package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

const issuer = "https://kubernetes.default.svc.cluster.local"

var b64 = base64.RawURLEncoding

// signerOf signs tokens with one key, and gives the key as a key set has it.
type signerOf struct {
	algorithm, id string
	key           crypto.Signer
}

func newSigner(t testing.TB, algorithm, id string) signerOf {
	t.Helper()
	var key crypto.Signer
	var err error
	switch algorithm {
	case "RS256", "PS256":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "EdDSA":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return signerOf{algorithm, id, key}
}

func (s signerOf) jwk() map[string]any {
	out := map[string]any{"use": "sig", "kid": s.id, "alg": s.algorithm}
	switch key := s.key.Public().(type) {
	case *rsa.PublicKey:
		out["kty"], out["n"], out["e"] = "RSA", b64.EncodeToString(key.N.Bytes()), b64.EncodeToString(big.NewInt(int64(key.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			panic(err)
		}
		size := (len(point) - 1) / 2
		out["kty"], out["crv"] = "EC", key.Params().Name
		out["x"], out["y"] = b64.EncodeToString(point[1:1+size]), b64.EncodeToString(point[1+size:])
	case ed25519.PublicKey:
		out["kty"], out["crv"], out["x"] = "OKP", "Ed25519", b64.EncodeToString(key)
	}
	return out
}

func (s signerOf) token(header, payload map[string]any) string {
	encode := func(v map[string]any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return b64.EncodeToString(raw)
	}
	text := encode(header) + "." + encode(payload)
	return text + "." + b64.EncodeToString(s.sign([]byte(text)))
}

func (s signerOf) sign(text []byte) []byte {
	must := func(raw []byte, err error) []byte {
		if err != nil {
			panic(err)
		}
		return raw
	}
	digest := sha256.Sum256(text)
	switch key := s.key.(type) {
	case *rsa.PrivateKey:
		if s.algorithm == "PS256" {
			return must(rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		}
		return must(rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:]))
	case *ecdsa.PrivateKey:
		sum, size := digest[:], 32
		if s.algorithm == "ES384" {
			h := crypto.SHA384.New()
			h.Write(text)
			sum, size = h.Sum(nil), 48
		}
		r, ss, err := ecdsa.Sign(rand.Reader, key, sum)
		out := make([]byte, 2*size)
		r.FillBytes(out[:size])
		ss.FillBytes(out[size:])
		return must(out, err)
	case ed25519.PrivateKey:
		return ed25519.Sign(key, text)
	}
	panic("no key")
}

var issued = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// payload gives a pod's token, as the API server makes it, with some claims replaced; nil removes one.
func payload(replaced map[string]any) map[string]any {
	out := map[string]any{
		"iss": issuer, "sub": "system:serviceaccount:kube-system:coredns", "aud": []string{issuer},
		"iat": issued.Unix(), "nbf": issued.Unix(), "exp": issued.Add(time.Hour).Unix(), "jti": "x",
		"kubernetes.io": map[string]any{
			"namespace": "kube-system", "pod": map[string]any{"name": "coredns-1", "uid": "p"},
			"serviceaccount": map[string]any{"name": "coredns", "uid": "u"},
		},
	}
	for k, v := range replaced {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

// cluster is what an authenticator knows.
type cluster struct {
	mu        sync.Mutex
	documents map[string][]byte
	now       time.Time
	newest    time.Time
}

func newCluster(t testing.TB, signers ...signerOf) *cluster {
	c := &cluster{documents: map[string][]byte{DiscoveryPath: []byte(`{"issuer":"` + issuer + `"}`)}, now: issued.Add(time.Minute)}
	c.publish(t, signers...)
	return c
}

func (c *cluster) publish(t testing.TB, signers ...signerOf) {
	t.Helper()
	keys := []any{}
	for _, s := range signers {
		keys = append(keys, s.jwk())
	}
	raw, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.documents[JWKSPath] = raw
}

func (c *cluster) authenticator(audiences ...string) *Authenticator {
	return New(Config{
		Node: "n1", ClientCAs: x509.NewCertPool(), Audiences: audiences,
		Document: func(path string) []byte { c.mu.Lock(); defer c.mu.Unlock(); return c.documents[path] },
		Now:      func() time.Time { return c.now }, Newest: func() time.Time { return c.newest },
	})
}

func TestIdentify(t *testing.T) {
	a, _ := authority(t, "n1")
	other, _ := authority(t, "n1")
	_, dir := authority(t, "n1")
	if err := Make(dir, "n2"); err != nil {
		t.Fatal(err)
	}
	parsed := func(a *Authority) *x509.Certificate {
		cert, _ := a.Client()
		c, err := Certificate(cert)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	third, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	who := New(Config{Node: "n1", ClientCAs: a.ClientCAs(), Now: func() time.Time { return time.Unix(0, 0) }, Document: func(string) []byte { return nil }})
	s := newSigner(t, "ES256", "k")
	jwt := s.token(map[string]any{"alg": "ES256", "kid": "k"}, payload(nil))
	withAt := s.token(map[string]any{"alg": "ES256"}, payload(map[string]any{
		"sub": "system:serviceaccount:kube-system:a@b%", "kubernetes.io": map[string]any{"namespace": "kube-system", "serviceaccount": map[string]any{"name": "a@b%"}}}))
	user := s.token(map[string]any{"alg": "ES256"}, map[string]any{"iss": "https://sso.example.com", "sub": "alice"})
	liar := s.token(map[string]any{"alg": "ES256"}, payload(map[string]any{"sub": "system:node:n1"}))
	for name, c := range map[string]struct {
		cert   *x509.Certificate
		header http.Header
		plain  bool
		want   Caller
		why    string
	}{
		"node":                   {cert: parsed(a), want: Caller{Name: "system:node:n1", Node: true}},
		"node, again":            {cert: parsed(a), want: Caller{Name: "system:node:n1", Node: true}},
		"node impersonating":     {cert: parsed(a), header: http.Header{"Impersonate-User": {"x"}}, want: Caller{Name: "system:node:n1", Node: true, Impersonates: true}},
		"foreign certificate":    {cert: parsed(other), why: "was not made by this node: the proxy ends TLS"},
		"foreign and token":      {cert: parsed(other), header: http.Header{"Authorization": {"Bearer " + jwt}}, why: "was not made by this node"},
		"other node's":           {cert: parsed(third), why: "was not made by this node"},
		"server's as client's":   {cert: a.server.Load().Leaf, why: "was not made by this node"},
		"node and token":         {cert: parsed(a), header: http.Header{"Authorization": {"Bearer " + jwt}}, why: "a client certificate and a bearer token"},
		"nothing":                {why: "no credential"},
		"empty":                  {header: http.Header{"Authorization": {""}}, why: "no credential"},
		"User-Agent of kubelet":  {header: http.Header{"User-Agent": {"kubelet/v1.37.2"}, "X-Remote-User": {"system:node:n1"}}, why: "no credential"},
		"pod":                    {header: http.Header{"Authorization": {"Bearer " + jwt}}, want: Caller{Name: "system:serviceaccount:kube-system:coredns@" + issuer, Token: jwt}},
		"pod, lower case":        {header: http.Header{"Authorization": {"bearer  " + jwt}}, want: Caller{Name: "system:serviceaccount:kube-system:coredns@" + issuer, Token: jwt}},
		"pod impersonating":      {header: http.Header{"Authorization": {"Bearer " + jwt}, "Impersonate-Extra-Scopes": {"x"}}, want: Caller{Name: "system:serviceaccount:kube-system:coredns@" + issuer, Token: jwt, Impersonates: true}},
		"name that could be two": {header: http.Header{"Authorization": {"Bearer " + withAt}}, want: Caller{Name: "system:serviceaccount:kube-system:a%40b%25@" + issuer, Token: withAt}},
		"user":                   {header: http.Header{"Authorization": {"Bearer " + user}}, want: Caller{Token: user}},
		"claims a node's name":   {header: http.Header{"Authorization": {"Bearer " + liar}}, want: Caller{Token: liar}},
		"opaque":                 {header: http.Header{"Authorization": {"Bearer abc"}}, want: Caller{Token: "abc"}},
		"truncated":              {header: http.Header{"Authorization": {"Bearer " + jwt[:len(jwt)/2]}}, want: Caller{Token: jwt[:len(jwt)/2]}},
		"basic":                  {header: http.Header{"Authorization": {"Basic YTpi"}}, why: `scheme "Basic"`},
		"two headers":            {header: http.Header{"Authorization": {"Bearer a", "Bearer b"}}, why: "2 Authorization headers"},
		"two tokens":             {header: http.Header{"Authorization": {"Bearer a b"}}, why: "no token, or several"},
		"no token":               {header: http.Header{"Authorization": {"Bearer "}}, why: "no token, or several"},
		"too long":               {header: http.Header{"Authorization": {"Bearer " + strings.Repeat("a", MaxToken+1)}}, why: "more than 32768 are not taken"},
		"browser":                {header: http.Header{"Sec-Websocket-Protocol": {"v5.channel.k8s.io, " + webSocketToken + b64.EncodeToString([]byte(jwt))}}, want: Caller{Name: "system:serviceaccount:kube-system:coredns@" + issuer, Token: jwt}},
		"browser, two":           {header: http.Header{"Sec-Websocket-Protocol": {webSocketToken + "YQ", webSocketToken + "Yg"}}, why: "or several"},
		"browser, not base64":    {header: http.Header{"Sec-Websocket-Protocol": {webSocketToken + "?"}}, why: "no bearer token"},
		"not encrypted":          {plain: true, header: http.Header{"Authorization": {"Bearer " + jwt}}, why: "https only"},
	} {
		r := &http.Request{Header: c.header}
		if !c.plain {
			r.TLS = &tls.ConnectionState{}
			if c.cert != nil {
				r.TLS.PeerCertificates = []*x509.Certificate{c.cert}
			}
		}
		got, err := who.Identify(r)
		var refused *Unauthenticated
		switch {
		case c.why == "" && (err != nil || got != c.want):
			t.Errorf("%s: %+v, %v", name, got, err)
		case c.why != "" && (!errors.As(err, &refused) || !strings.Contains(err.Error(), c.why) || got != Caller{}):
			t.Errorf("%s: %+v, %v; want %q", name, got, err, c.why)
		}
	}
}

func TestVerify(t *testing.T) {
	rs, es := newSigner(t, "RS256", "rs"), newSigner(t, "ES256", "es")
	ps, es384, ed := newSigner(t, "PS256", "ps"), newSigner(t, "ES384", "es384"), newSigner(t, "EdDSA", "ed")
	stranger, strangerRS := newSigner(t, "ES256", "es"), newSigner(t, "RS256", "rs")
	c := newCluster(t, rs, es, ps, es384, ed)
	who := c.authenticator("https://api.example.com")
	token := func(s signerOf, replaced map[string]any) string {
		return s.token(map[string]any{"alg": s.algorithm, "kid": s.id}, payload(replaced))
	}
	good := token(es, nil)
	parts := strings.Split(good, ".")
	der, err := x509.MarshalPKIXPublicKey(rs.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ token, why string }{
		"RS256":                     {token(rs, nil), ""},
		"ES256":                     {good, ""},
		"PS256":                     {token(ps, nil), ""},
		"ES384":                     {token(es384, nil), ""},
		"EdDSA":                     {token(ed, nil), ""},
		"no key named":              {es.token(map[string]any{"alg": "ES256"}, payload(nil)), ""},
		"one audience":              {token(es, map[string]any{"aud": issuer}), ""},
		"audience of the API":       {token(es, map[string]any{"aud": []string{"vault", "https://api.example.com"}}), ""},
		"forged":                    {token(stranger, nil), "signature is wrong"},
		"forged RS256":              {token(strangerRS, nil), "signature is wrong"},
		"key not published":         {token(newSigner(t, "ES256", "new"), nil), `the key "new", which was not among`},
		"alg none":                  {b64.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", `signed with "none"`},
		"alg of a secret":           {hmacToken(der, payload(nil)), `signed with "HS256"`},
		"alg of another kind":       {es.token(map[string]any{"alg": "RS256", "kid": "es"}, payload(nil)), "which was not among"},
		"alg of the key's sibling":  {rs.token(map[string]any{"alg": "PS256", "kid": "rs"}, payload(nil)), "which was not among"},
		"truncated":                 {parts[0] + "." + parts[1] + "." + b64.EncodeToString(b64Decode(parts[2])[:60]), "signature is wrong"},
		"half":                      {good[:len(good)/2], "not a JSON Web Token"},
		"payload of another":        {parts[0] + "." + strings.Split(token(stranger, map[string]any{"jti": "y"}), ".")[1] + "." + parts[2], "signature is wrong"},
		"header of another":         {b64.EncodeToString([]byte(`{"alg":"ES256","kid":"es","x":1}`)) + "." + parts[1] + "." + parts[2], "signature is wrong"},
		"four parts":                {good + ".x", "not a JSON Web Token"},
		"padded":                    {good + "=", "not a JSON Web Token"},
		"critical":                  {es.token(map[string]any{"alg": "ES256", "crit": []string{"b64"}}, payload(nil)), `"crit"`},
		"opaque":                    {"abc", "not a JSON Web Token"},
		"expired":                   {token(es, map[string]any{"exp": issued.Add(-time.Minute).Unix()}), "the token expired at 2026-05-01T11:59:00Z"},
		"not yet, by its own words": {token(es, map[string]any{"nbf": issued.Add(time.Hour).Unix()}), "not valid before"},
		"no expiry":                 {token(es, map[string]any{"exp": nil}), "no date of expiry"},
		"expiry in words":           {token(es, map[string]any{"exp": "tomorrow"}), "not a JSON Web Token"},
		"expiry out of range":       {token(es, map[string]any{"exp": 1e30}), "not a JSON Web Token"},
		"another audience":          {token(es, map[string]any{"aud": []string{"vault"}}), `audience ["vault"]`},
		"no audience":               {token(es, map[string]any{"aud": nil}), "audience"},
		"another issuer":            {token(es, map[string]any{"iss": "https://evil.example.com"}), "issuer"},
		"no issuer":                 {token(es, map[string]any{"iss": nil}), "issuer"},
		"subject not its account":   {token(es, map[string]any{"sub": "system:serviceaccount:kube-system:admin"}), "no service account's"},
		"subject a node":            {token(es, map[string]any{"sub": "system:node:n1"}), "no service account's"},
		"no cluster claims":         {token(es, map[string]any{"kubernetes.io": nil}), "no service account's"},
		"no UID":                    {token(es, map[string]any{"kubernetes.io": map[string]any{"namespace": "kube-system", "serviceaccount": map[string]any{"name": "coredns"}}}), "no service account's"},
	} {
		for range 2 { // the second time it may be remembered
			err := who.Verify(t.Context(), Caller{Token: test.token})
			var refused *Unauthenticated
			if test.why == "" && err != nil || test.why != "" && (!errors.As(err, &refused) || !strings.Contains(err.Error(), test.why)) {
				t.Errorf("%s: %v; want %q", name, err, test.why)
			}
		}
	}
	if err := who.Verify(t.Context(), Caller{Node: true}); err != nil {
		t.Errorf("the node: %v", err)
	}
}

func b64Decode(text string) []byte {
	raw, err := b64.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return raw
}

// hmacToken is signed with a public key as if it were a secret.
func hmacToken(secret []byte, claims map[string]any) string {
	raw, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	text := b64.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." + b64.EncodeToString(raw)
	sum := sha256.Sum256(append(secret, text...))
	return text + "." + b64.EncodeToString(sum[:])
}

// TestClocks: a clock that is behind neither revives a token nor refuses one; remembered tokens expire too.
func TestClocks(t *testing.T) {
	s := newSigner(t, "ES256", "k")
	c := newCluster(t, s)
	token := Caller{Token: s.token(map[string]any{"alg": "ES256"}, payload(nil))}
	for name, test := range map[string]struct {
		now, newest time.Time
		fine        bool
	}{
		"right":                       {issued.Add(time.Minute), time.Time{}, true},
		"1970":                        {time.Unix(0, 0), time.Time{}, true},
		"1970, and newer was seen":    {time.Unix(0, 0), issued.Add(30 * time.Minute), true},
		"1970, and expiry was passed": {time.Unix(0, 0), issued.Add(2 * time.Hour), false},
		"within what clocks differ":   {issued.Add(time.Hour + 30*time.Second), time.Time{}, true},
		"late":                        {issued.Add(time.Hour + 2*time.Minute), time.Time{}, false},
	} {
		c.now, c.newest = test.now, test.newest
		if err := c.authenticator().Verify(t.Context(), token); (err == nil) != test.fine {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.now, c.newest = issued, time.Time{}
	who := c.authenticator()
	if err := who.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	c.now = issued.Add(2 * time.Hour)
	if err := who.Verify(t.Context(), token); err == nil {
		t.Error("a remembered token does not expire")
	}
	// A newer token is evidence of the time: an older one that had expired by then is refused although the clock is behind.
	c.now = time.Unix(0, 0)
	later := Caller{Token: s.token(map[string]any{"alg": "ES256"}, payload(map[string]any{"iat": issued.Add(3 * time.Hour).Unix(), "exp": issued.Add(4 * time.Hour).Unix()}))}
	who = c.authenticator()
	if err := errors.Join(who.Verify(t.Context(), token), who.Verify(t.Context(), later)); err != nil {
		t.Fatal(err)
	}
	if err := who.Verify(t.Context(), token); err == nil {
		t.Error("a token expired hours before the newest was issued, and is taken")
	}
}

func TestKeysThatChange(t *testing.T) {
	old, fresh := newSigner(t, "RS256", "old"), newSigner(t, "RS256", "new")
	c := newCluster(t, old)
	who := c.authenticator()
	token := func(s signerOf) Caller {
		return Caller{Token: s.token(map[string]any{"alg": "RS256", "kid": s.id}, payload(nil))}
	}
	if err := who.Verify(t.Context(), token(old)); err != nil {
		t.Fatal(err)
	}
	if err := who.Verify(t.Context(), token(fresh)); err == nil {
		t.Fatal("a key that is not published")
	}
	c.publish(t, fresh)
	kept := token(old)
	if err := who.Verify(t.Context(), kept); err == nil {
		t.Error("a key that is not published any more")
	}
	if err := who.Verify(t.Context(), token(fresh)); err != nil {
		t.Error(err)
	}
	c.documents[DiscoveryPath] = []byte(`{"issuer":"https://other.example.com"}`)
	if err := who.Verify(t.Context(), token(fresh)); err == nil || !strings.Contains(err.Error(), `the cluster's is "https://other.example.com"`) {
		t.Errorf("the issuer changed: %v", err)
	}
	for name, documents := range map[string]map[string][]byte{
		"nothing":        {},
		"no keys":        {DiscoveryPath: []byte(`{"issuer":"` + issuer + `"}`)},
		"not JSON":       {DiscoveryPath: []byte(`{"issuer":"` + issuer + `"}`), JWKSPath: []byte("x")},
		"no issuer":      {DiscoveryPath: []byte(`{}`), JWKSPath: []byte(`{"keys":[]}`)},
		"a small key":    {DiscoveryPath: []byte(`{"issuer":"` + issuer + `"}`), JWKSPath: []byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`)},
		"a key too long": {DiscoveryPath: []byte(`{"issuer":"` + issuer + `"}`), JWKSPath: []byte(`{"keys":[{"kty":"RSA","e":"AQAB","n":"` + strings.Repeat("A", 1<<20) + `"}]}`)},
		"off the curve":  {DiscoveryPath: []byte(`{"issuer":"` + issuer + `"}`), JWKSPath: []byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AQAB","y":"AQAB"}]}`)},
	} {
		c.documents = documents
		var refused *Unauthenticated
		if err := who.Verify(t.Context(), token(fresh)); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestManyTokens: what is remembered is bounded.
func TestManyTokens(t *testing.T) {
	s := newSigner(t, "EdDSA", "k")
	c := newCluster(t, s)
	who := c.authenticator()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range maxVerified {
				token := s.token(map[string]any{"alg": "EdDSA"}, payload(map[string]any{"jti": g*maxVerified + i}))
				if err := who.Verify(t.Context(), Caller{Token: token}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(who.verified); n == 0 || n > maxVerified {
		t.Errorf("%d tokens are remembered", n)
	}
}

// FuzzToken: no token breaks the parser, none but the genuine ones is verified, and names are only service accounts'.
func FuzzToken(f *testing.F) {
	s := newSigner(f, "ES256", "k")
	c := newCluster(f, s)
	who := c.authenticator()
	good := s.token(map[string]any{"alg": "ES256", "kid": "k"}, payload(nil))
	f.Add(good)
	f.Add("..")
	f.Add("e30.e30.")
	f.Add(b64.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(good, ".")[1] + ".")
	f.Fuzz(func(t *testing.T, token string) {
		if claims, err := peek(token); err == nil {
			if name := claims.name(); name != "" && !IsServiceAccount(name) {
				t.Errorf("%q is called %q", token, name)
			}
		}
		if err := who.Verify(t.Context(), Caller{Token: token}); err == nil && token != good {
			t.Errorf("%q was taken", token)
		}
	})
}

func BenchmarkVerifyRemembered(b *testing.B) {
	s := newSigner(b, "RS256", "k")
	c := newCluster(b, s)
	who := c.authenticator()
	caller := Caller{Token: s.token(map[string]any{"alg": "RS256", "kid": "k"}, payload(nil))}
	b.ReportAllocs()
	for b.Loop() {
		if err := who.Verify(b.Context(), caller); err != nil {
			b.Fatal(err)
		}
	}
}
