package upstream

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// maxTokenAnswer bounds what a token server may say.
	maxTokenAnswer = 64 << 10
	// A token lives for leastLife at least, by the specification; for longer than mostLife it is not kept.
	leastLife, mostLife = time.Minute, time.Hour
)

// expected gives the Authorization header that the registry will ask for, judging by the last time; "" if it asked for nothing.
func (r *Registry) expected(ctx context.Context, q query) (string, error) {
	r.mu.Lock()
	c := r.challenge
	r.mu.Unlock()
	if c == nil {
		return "", nil
	}
	return r.authorization(ctx, q, c, "")
}

// answer gives the Authorization header after a 401. stale is the one that was not good enough.
func (r *Registry) answer(ctx context.Context, q query, h http.Header, stale string) (string, error) {
	c := pick(h.Values("Www-Authenticate"))
	if c == nil {
		return "", r.failf(Unauthorized, q.doing, "it answers 401 and offers neither a token nor a password to log in with")
	}
	authorization, err := r.authorization(ctx, q, c, stale)
	switch {
	case err != nil:
		return "", err
	case authorization == "":
		return "", r.failf(Unauthorized, q.doing, "it wants a user and a password, and there is no credential for %s", q.repository)
	case authorization == stale:
		return "", r.failf(Unauthorized, q.doing, "it does not accept the credential for %s", q.repository)
	}
	r.mu.Lock()
	r.challenge = c
	r.mu.Unlock()
	return authorization, nil
}

// authorization answers a challenge: with a password, or with a token that is known or asked for.
func (r *Registry) authorization(ctx context.Context, q query, c *challenge, stale string) (string, error) {
	cred, err := r.credentials.Credential(ctx, q.repository)
	if err != nil {
		return "", r.fail(Unauthorized, q.doing, fmt.Errorf("read the credential for %s: %w", q.repository, err))
	}
	if c.scheme == "basic" {
		return basic(cred), nil
	}
	key := tokenKey{r.fingerprint(cred), c.realm, c.service, "repository:" + q.repository + ":pull"}
	return r.tokens.get(ctx, key, stale, func() (string, time.Duration, error) { return r.fetchToken(ctx, q.doing, key, cred) })
}

// basic is "" if there is no password.
func basic(c Credential) string {
	if c.Username == "" && c.Password == "" {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}

// fingerprint tells credentials apart without keeping them.
func (l *link) fingerprint(c Credential) (out [32]byte) {
	mac := hmac.New(sha256.New, l.secret[:])
	for _, part := range []string{c.Username, c.Password, c.IdentityToken} {
		fmt.Fprintf(mac, "%d:%s", len(part), part)
	}
	mac.Sum(out[:0])
	return out
}

// fetchToken asks a token server. The scope is the one that is needed, whatever the challenge says: a token that could push would be
// worth stealing. Only servers that the fleet declares are given a credential, and no redirect is followed.
func (l *link) fetchToken(ctx context.Context, doing string, key tokenKey, cred Credential) (string, time.Duration, error) {
	realm, err := url.Parse(key.realm)
	if err != nil || realm.Scheme != "https" || realm.Hostname() == "" || realm.User != nil {
		return "", 0, l.failf(Refused, doing, "it sends to a token server that is not https://host[:port]/…")
	}
	if !cred.IsZero() && !l.declared[hostPort(realm.Host)] {
		return "", 0, l.failf(Refused, doing, "it wants the credential to go to %s, which is not declared; name it in the registry's hosts if that is meant", realm.Host)
	}
	doing = fmt.Sprintf("%s: get a token from %s", doing, realm.Host)
	resp, err := l.send(doing, tokenRequest(ctx, realm, key, cred))
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	if isRedirect(resp) {
		return "", 0, l.failf(Refused, doing, "the token server redirects")
	}
	if resp.StatusCode != http.StatusOK {
		e := l.statusError(doing, resp)
		if e.Kind == NotFound || e.Kind == Unexpected {
			e.Kind = Unauthorized // what is not found is not the image
		}
		return "", 0, e
	}
	return l.readToken(doing, resp.Body)
}

// tokenRequest makes the request: with an identity token as OAuth has it, else as Docker began it.
func tokenRequest(ctx context.Context, realm *url.URL, key tokenKey, cred Credential) *http.Request {
	target := *realm
	req := (&http.Request{Method: http.MethodGet, URL: &target, Header: http.Header{"Accept": {"application/json"}}}).WithContext(ctx)
	form := url.Values{"service": {key.service}, "scope": {key.scope}}
	if cred.IdentityToken == "" {
		query := target.Query()
		for name, values := range form {
			query[name] = values
		}
		target.RawQuery = query.Encode()
		if authorization := basic(cred); authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		return req
	}
	form.Set("grant_type", "refresh_token")
	form.Set("refresh_token", cred.IdentityToken)
	form.Set("client_id", "holdfast")
	text := form.Encode()
	req.Method = http.MethodPost
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.ContentLength = int64(len(text))
	req.Body = io.NopCloser(strings.NewReader(text))
	return req
}

func (l *link) readToken(doing string, body io.Reader) (string, time.Duration, error) {
	raw, err := io.ReadAll(io.LimitReader(body, maxTokenAnswer+1))
	if err != nil {
		return "", 0, err
	}
	var said struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if err := json.Unmarshal(raw, &said); err != nil || len(raw) > maxTokenAnswer {
		return "", 0, l.failf(ErrorPage, doing, "the token server's answer is no token")
	}
	token := cmp.Or(said.Token, said.AccessToken)
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", 0, l.failf(ErrorPage, doing, "the token server's answer holds no token")
	}
	seconds := min(max(said.ExpiresIn, int64(leastLife/time.Second)), int64(mostLife/time.Second))
	return "Bearer " + token, time.Duration(seconds) * time.Second, nil
}
