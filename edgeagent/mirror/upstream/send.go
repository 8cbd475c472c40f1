package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// maxRedirects is how often a registry may send a request elsewhere.
const maxRedirects = 5

// query is what a registry is asked, in whichever way it has to be sent.
type query struct {
	doing      string // for errors
	method     string
	url        *url.URL
	repository string
	accept     string
	rang       string // the Range header; "" asks for all
}

// do asks the registry and logs in where it must. The answer is a success; its body must be closed.
func (r *Registry) do(ctx context.Context, q query) (*http.Response, error) {
	authorization, err := r.expected(ctx, q)
	if err != nil {
		return nil, err
	}
	resp, asked, err := r.follow(ctx, q, authorization)
	if err == nil && asked && resp.StatusCode == http.StatusUnauthorized {
		discard(resp)
		if authorization, err = r.answer(ctx, q, resp.Header, authorization); err != nil {
			return nil, err
		}
		resp, _, err = r.follow(ctx, q, authorization)
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK && (resp.StatusCode != http.StatusPartialContent || q.rang == "") {
		defer resp.Body.Close()
		return nil, r.statusError(q.doing, resp)
	}
	return resp, nil
}

// follow sends a query to the registry, with its authorization, and then wherever it is redirected, with none. asked: the answer is the
// registry's own, not that of a host it named.
func (r *Registry) follow(ctx context.Context, q query, authorization string) (resp *http.Response, asked bool, err error) {
	target := q.url
	for n := 0; ; n++ {
		req := (&http.Request{Method: q.method, URL: target, Header: http.Header{}}).WithContext(ctx)
		if authorization != "" && n == 0 {
			req.Header.Set("Authorization", authorization)
		}
		if q.accept != "" {
			req.Header.Set("Accept", q.accept)
		}
		if q.rang != "" {
			req.Header.Set("Range", q.rang)
		}
		if resp, err = r.send(q.doing, req); err != nil || !isRedirect(resp) {
			return resp, n == 0, err
		}
		discard(resp)
		if n == maxRedirects {
			return nil, false, r.failf(Refused, q.doing, "it redirects more than %d times", maxRedirects)
		}
		if target, err = r.redirected(q.doing, target, resp.Header.Get("Location")); err != nil {
			return nil, false, err
		}
	}
}

func isRedirect(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirected reads where to go on.
func (r *Registry) redirected(doing string, from *url.URL, location string) (*url.URL, error) {
	if location == "" {
		return nil, r.failf(Unexpected, doing, "it redirects without saying where")
	}
	next, err := url.Parse(location)
	if err != nil {
		return nil, r.failf(Unexpected, doing, "it redirects to what is no address")
	}
	next = from.ResolveReference(next)
	if next.Scheme != "https" || next.Hostname() == "" || next.User != nil {
		return nil, r.failf(Refused, doing, "it redirects to %q; only https://host[:port]/… is followed", next.Scheme+"://"+next.Host)
	}
	return next, nil
}

// send sends one request to one host. The answer may be any; its body must be closed. It gives up on a host that cannot be connected
// within Config.Connect, or at once if that was tried lately, and on one that is silent for Config.Idle.
func (l *link) send(doing string, req *http.Request) (*http.Response, error) {
	ctx, host := req.Context(), hostPort(req.URL.Host)
	req.Header.Set("User-Agent", l.cfg.UserAgent)
	proxied, err := l.proxied(doing, req.URL)
	if err != nil {
		return nil, err
	}
	b := l.breaker(host)
	attempt, err := b.enter()
	if err != nil {
		return nil, l.fail(Unavailable, doing, fmt.Errorf("%s could not be connected a moment ago: %w", host, err))
	}
	carrier := l.foreign
	if l.declared[host] {
		carrier = l.own
	}
	hctx, h := l.newHop(ctx, proxied)
	resp, err := carrier.RoundTrip(req.WithContext(hctx))
	carried := h.answered()
	if err != nil {
		err = l.sendError(ctx, context.Cause(hctx), carried, doing, host, err)
		l.decide(b, attempt, host, err)
		h.cancel(nil)
		return nil, err
	}
	l.reached(host)
	resp.Body = &body{ReadCloser: resp.Body, link: l, hop: h, ctx: ctx, hctx: hctx, doing: doing}
	return resp, nil
}

// proxied tells whether a proxy carries requests to an address. A proxy resolves names itself, so of undeclared hosts only those that
// are written as an address can be judged.
func (l *link) proxied(doing string, target *url.URL) (bool, error) {
	if l.cfg.Proxy == nil {
		return false, nil
	}
	proxy, err := l.cfg.Proxy(target)
	if err != nil {
		return false, l.fail(Unavailable, doing, fmt.Errorf("find the HTTP proxy: %w", err))
	}
	if proxy == nil || l.declared[hostPort(target.Host)] {
		return proxy != nil, nil
	}
	if a, err := netip.ParseAddr(target.Hostname()); err == nil && l.private(a) {
		return false, l.fail(Refused, doing, fmt.Errorf("%s: %w", a, errPrivate))
	}
	return true, nil
}

// sendError says why there was no answer: cause is what ended the hop from outside, carried whether a connection had the request.
func (l *link) sendError(ctx context.Context, cause error, carried bool, doing, host string, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("registry %s: %s: %w", l.cfg.Name, doing, context.Cause(ctx))
	case errors.Is(err, errPrivate):
		return l.fail(Refused, doing, fmt.Errorf("it involves %s: %w; name it in the registry's hosts if that is meant", host, err))
	case !carried && cause != nil:
		return l.failf(Unavailable, doing, "connect to %s: %w", host, cause)
	case !carried:
		return l.failf(Unavailable, doing, "connect to %s: %w", host, err)
	case cause == errGone:
		return l.failf(Unavailable, doing, "%s: %w", host, cause)
	case cause == errSilent:
		return l.failf(Stalled, doing, "%s: %w for %v", host, cause, l.cfg.Idle)
	}
	return l.failf(Dropped, doing, "%s: %w", host, err)
}

// decide tells the host's breaker what came of a request that failed.
func (l *link) decide(b *breaker, attempt bool, host string, err error) {
	if !errors.Is(err, Unavailable) {
		b.undecided(attempt)
		return
	}
	var e *Error
	errors.As(err, &e)
	if opened, pause := b.unavailable(attempt, e.Err, l.cfg.Retry); opened {
		l.log.Warn("a registry's host cannot be connected", "registry", l.cfg.Name, "host", host, "retry", pause.Round(time.Millisecond), "err", e.Err)
	}
}

// reached closes a host's breaker.
func (l *link) reached(host string) {
	if l.breaker(strings.ToLower(host)).connected() {
		l.log.Info("a registry's host is connected again", "registry", l.cfg.Name, "host", host)
	}
}

// discard reads what little there may be, so that the connection can be used again.
func discard(resp *http.Response) {
	io.CopyN(io.Discard, resp.Body, 16<<10) // the connection ends with the body if there is more
	resp.Body.Close()
}

// body is an answer's body: silence ends it, the limit slows it, and its errors say what happened.
type body struct {
	io.ReadCloser
	link      *link
	hop       *hop
	ctx, hctx context.Context // of the caller, of the hop
	doing     string
}

// Read gives an *Error, the context's error, or io.EOF.
func (b *body) Read(p []byte) (int, error) {
	limit := b.link.cfg.Limit
	p = p[:limit.most(len(p))]
	b.hop.timer.Reset(b.hop.idle)
	n, err := b.ReadCloser.Read(p)
	b.hop.timer.Stop()
	if n > 0 {
		if e := limit.wait(b.ctx, n); e != nil && err == nil {
			err = e
		}
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	switch {
	case b.ctx.Err() != nil:
		return n, fmt.Errorf("registry %s: %s: %w", b.link.cfg.Name, b.doing, context.Cause(b.ctx))
	case context.Cause(b.hctx) == errSilent:
		return n, b.link.failf(Stalled, b.doing, "%w for %v", errSilent, b.hop.idle)
	}
	return n, b.link.failf(Dropped, b.doing, "%w", err)
}

// Close ends the download.
func (b *body) Close() error {
	b.hop.timer.Stop()
	err := b.ReadCloser.Close()
	b.hop.cancel(nil)
	return err
}
