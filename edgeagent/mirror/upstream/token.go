package upstream

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// maxTokens bounds the tokens that are kept, maxTokenAnswer what a token server may say.
	maxTokens, maxTokenAnswer = 512, 64 << 10
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

// tokenKey says what a token is for and whose it is.
type tokenKey struct {
	credential            [32]byte
	realm, service, scope string
}

// tokens keeps tokens in memory while they are good. Their age is measured here: wall clocks may be wrong.
type tokens struct {
	mu    sync.Mutex // guards what follows
	known map[tokenKey]*token
}

// token is an Authorization header, or the wait for it.
type token struct {
	ready  chan struct{} // closed when the rest is there
	header string
	until  time.Time
	err    error
}

func (t *tokens) init() { t.known = map[tokenKey]*token{} }

// get gives a token that is good, and not the stale one. However many ask, one fetches it.
func (t *tokens) get(ctx context.Context, key tokenKey, stale string, fetch func() (string, time.Duration, error)) (string, error) {
	for {
		entry, mine := t.entry(key, stale)
		if mine {
			began := time.Now()
			header, life, err := fetch()
			t.settle(key, entry, header, began.Add(life*9/10), err)
			return header, err
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-entry.ready:
		}
		var failed *Error
		if entry.err == nil || errors.As(entry.err, &failed) {
			return entry.header, entry.err
		}
		// Whoever fetched it was called off: the next one does.
	}
}

// entry gives the token for a key, or a new one that the caller fetches.
func (t *tokens) entry(key tokenKey, stale string) (entry *token, mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if entry = t.known[key]; entry != nil && (!entry.isReady() || entry.header != stale && time.Now().Before(entry.until)) {
		return entry, false
	}
	if entry == nil && len(t.known) >= maxTokens {
		t.shrink()
	}
	entry = &token{ready: make(chan struct{})}
	t.known[key] = entry
	return entry, true
}

// shrink makes room: of what is over, or else of any one.
func (t *tokens) shrink() {
	var victim tokenKey
	for key, entry := range t.known {
		if !entry.isReady() {
			continue
		}
		victim = key
		if !time.Now().Before(entry.until) {
			delete(t.known, key)
		}
	}
	if len(t.known) >= maxTokens {
		delete(t.known, victim)
	}
}

func (t *tokens) settle(key tokenKey, entry *token, header string, until time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	entry.header, entry.until, entry.err = header, until, err
	if err != nil && t.known[key] == entry {
		delete(t.known, key)
	}
	close(entry.ready)
}

func (t *token) isReady() bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}
