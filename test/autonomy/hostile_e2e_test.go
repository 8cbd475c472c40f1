//go:build e2e

package autonomy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// What nobody but their owners may see.
const (
	shopsSecret, banksSecret = "the-shop's-pin-4711", "the-bank's-pin-0815"
	shopPath, bankPath       = "/api/v1/namespaces/shop/secrets", "/api/v1/namespaces/bank/secrets"
	tillKey                  = shopPath + "/till-key"
)

// TestHostileCallers has callers of all kinds try to get what is not theirs, or to keep others from being served, online and offline.
func TestHostileCallers(t *testing.T) {
	c := newCallers(t)
	h := &hostile{callers: c, reader: c.token("shop", "reader"), teller: c.token("bank", "teller")}
	h.prepare()
	for _, h.offline = range []bool{false, true} {
		name := "online"
		if h.offline {
			name = "offline"
			c.must(c.link.Cut())
			c.linkIs("Offline")
		}
		t.Run(name, func(t *testing.T) {
			in := *h
			in.callers = &callers{site: new(site), proxy: c.proxy}
			*in.site = *c.site
			in.TB = t
			for _, f := range []func(){in.theirOwn, in.pretend, in.paths, in.absolute, in.frames, in.crowd, in.endlessRequests, in.endlessAnswers, in.theirOwn} {
				f()
			}
		})
	}
}

// hostile is a node with two pods that may read different namespaces, and all kinds of others.
type hostile struct {
	*callers
	reader, teller string // tokens
	offline        bool
}

// prepare makes the Secrets, and has everyone read what is theirs, so that it is cached.
func (h *hostile) prepare() {
	h.Helper()
	for namespace, pin := range map[string]string{"shop": shopsSecret, "bank": banksSecret} {
		h.must(h.lab.Request(h.Context(), http.MethodPost, "/api/v1/namespaces/"+namespace+"/secrets", map[string]any{
			"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "till-key"}, "stringData": map[string]string{"pin": pin}}, nil))
	}
	h.serveEndless()
	h.within(30*time.Second, func() error {
		for _, r := range []exchange{
			{cert: h.nodeCertificate(), path: "/api/v1/secrets"}, {cert: h.nodeCertificate(), path: "/api/v1/nodes/shop-1"},
			{token: h.reader, path: shopPath}, {token: h.reader, path: tillKey}, {token: h.teller, path: bankPath},
		} {
			if got := h.send(r); got.code != http.StatusOK {
				return fmt.Errorf("%s: %d %s", r.path, got.code, got.body)
			}
		}
		return nil
	})
	// The agent reads the keys that tokens are verified with some seconds after the link came up.
	h.within(2*time.Minute, func() error {
		h.must(h.link.Cut())
		h.linkIs("Offline")
		got := h.send(exchange{token: h.reader, path: tillKey})
		h.must(h.link.Restore())
		h.linkIs("Online")
		if got.code != http.StatusOK {
			return fmt.Errorf("the reader offline: %d %s", got.code, got.body)
		}
		return nil
	})
}

// exchange is one request as it is written on the wire, in HTTP/1.1.
type exchange struct {
	name    string
	cert    *tls.Certificate
	token   string
	path    string   // of a GET
	headers []string // more of them
	raw     string   // all of it, instead
	// codes are what the answer may have, online and offline; nil means any. Whatever it is, no secret may be in it.
	online, offline []int
	says            string // what the answer says
}

// answer is what came back.
type answer struct {
	code int
	body string
}

// send sends one request to the proxy on a connection of its own, and reads until that is closed.
func (h *hostile) send(x exchange) answer { h.Helper(); return h.sendTo(h.proxy, h.tlsTo(x.cert), x) }

func (h *hostile) sendTo(address string, conf *tls.Config, x exchange) answer {
	h.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", address, conf)
	h.must(err)
	defer conn.Close()
	h.must(conn.SetDeadline(time.Now().Add(10 * time.Second)))
	raw := x.raw
	if raw == "" {
		headers := slices.Concat([]string{"Host: " + h.proxy, "Connection: close"}, x.headers)
		if x.token != "" {
			headers = append(headers, "Authorization: Bearer "+x.token)
		}
		raw = "GET " + x.path + " HTTP/1.1\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
	}
	if _, err := io.WriteString(conn, raw); err != nil {
		return answer{0, err.Error()}
	}
	var all bytes.Buffer
	_, err = io.Copy(&all, io.LimitReader(conn, 1<<20))
	resp, bad := http.ReadResponse(bufio.NewReader(bytes.NewReader(all.Bytes())), nil)
	if bad != nil {
		return answer{0, fmt.Sprintf("%v, %v: %s", err, bad, all.String())}
	}
	resp.Body.Close()
	return answer{resp.StatusCode, all.String()}
}

// pretend tries all credentials that are none, or somebody else's.
func (h *hostile) pretend() {
	h.Helper()
	for _, attack := range h.attacks() {
		h.try(attack)
	}
}

// try sends what somebody hopes to get the shop's Secret with.
func (h *hostile) try(x exchange) {
	h.Helper()
	got := h.send(x)
	want := x.online
	if h.offline {
		want = x.offline
	}
	if want != nil && !slices.Contains(want, got.code) {
		h.Errorf("%s: answered with %d, want %v: %s", x.name, got.code, want, got.body)
	}
	if !strings.Contains(got.body, x.says) {
		h.Errorf("%s: the answer does not say %q: %s", x.name, x.says, got.body)
	}
	h.leaks(x.name, got)
}

// leaks tells if an answer has what it must not.
func (h *hostile) leaks(name string, got answer) {
	h.Helper()
	for _, pin := range []string{shopsSecret, base64.StdEncoding.EncodeToString([]byte(shopsSecret))} {
		if strings.Contains(got.body, pin) {
			h.Errorf("%s: the shop's secret was given out: %s", name, got.body)
		}
	}
}

// theirOwn: everyone gets what is theirs, or nothing here would show anything.
func (h *hostile) theirOwn() {
	h.Helper()
	for _, x := range []struct {
		exchange
		pin string
	}{
		{exchange{name: "the reader", token: h.reader, path: tillKey}, shopsSecret}, {exchange{name: "the reader's list", token: h.reader, path: shopPath}, shopsSecret},
		{exchange{name: "the node", cert: h.nodeCertificate(), path: tillKey}, shopsSecret}, {exchange{name: "the teller's list", token: h.teller, path: bankPath}, banksSecret},
	} {
		got := h.send(x.exchange)
		if got.code != http.StatusOK || !strings.Contains(got.body, base64.StdEncoding.EncodeToString([]byte(x.pin))) {
			h.Errorf("%s does not get what is its own: %d %s", x.name, got.code, got.body)
		}
	}
}

// attacks are the requests of those who have no credential, another's, or a false one.
func (h *hostile) attacks() []exchange {
	h.Helper()
	no, forbidden, refused := []int{401}, []int{403}, []int{403, 503}
	node := h.nodeCertificate()
	kubelet := "User-Agent: kubelet/v1.37.2 (linux/amd64) kubernetes/0000000"
	all := []exchange{
		{name: "no credential", path: tillKey, online: no, offline: no, says: "no credential"},
		{name: "says it is the kubelet", path: tillKey, headers: []string{kubelet}, online: no, offline: no},
		{name: "a password", path: tillKey, headers: []string{"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("admin:admin"))}, online: no, offline: no},
		{name: "a token in the query", path: tillKey + "?access_token=" + h.reader, online: no, offline: no},
		{name: "another pod's token", token: h.teller, path: tillKey, online: forbidden, offline: refused},
		{name: "another pod's token, list", token: h.teller, path: shopPath, online: forbidden, offline: refused},
		{name: "another pod's token, every namespace", token: h.teller, path: "/api/v1/secrets", online: forbidden, offline: refused},
		{name: "another pod's token, watch", token: h.teller, path: shopPath + "?watch=true&resourceVersion=0", online: forbidden, offline: refused},
		{name: "another pod's token, table", token: h.teller, path: shopPath, headers: []string{"Accept: application/json;as=Table;g=meta.k8s.io;v=v1"}, online: forbidden, offline: refused},
		{name: "another pod says it is the kubelet", token: h.teller, path: tillKey, headers: []string{kubelet}, online: forbidden, offline: refused},
		{name: "a pod as somebody else", token: h.teller, path: tillKey, headers: []string{"Impersonate-User: system:serviceaccount:shop:reader"}, online: forbidden, offline: forbidden},
		{name: "a pod in a group", token: h.teller, path: tillKey, headers: []string{"impersonate-group: system:masters"}, online: []int{400, 403, 500}, offline: forbidden},
		{name: "the node as somebody else", cert: node, path: tillKey, headers: []string{"impersonate-user: root"}, online: forbidden, offline: forbidden},
		{name: "the node as somebody else, named away", cert: node, path: tillKey, headers: []string{"Impersonate-User: root", "Connection: Impersonate-User"}, online: forbidden, offline: forbidden},
		{name: "the node with a UID", cert: node, path: tillKey, headers: []string{"Impersonate-Uid: 1"}, online: forbidden, offline: forbidden},
		{name: "the node with more", cert: node, path: tillKey, headers: []string{"Impersonate-Extra-Scopes: all"}, online: forbidden, offline: forbidden},
		{name: "as an aggregator", token: h.teller, path: tillKey, headers: []string{"X-Remote-User: root", "X-Remote-Group: system:masters", "x-remote-extra-scopes: all"}, online: forbidden, offline: refused},
		{name: "credential named away", token: h.teller, path: tillKey, headers: []string{"Connection: Authorization, X-Remote-User", "X-Remote-User: root"}, online: forbidden, offline: refused},
		{name: "two tokens", token: h.teller, path: tillKey, headers: []string{"Authorization: Bearer " + h.reader}, online: no, offline: no},
		{name: "two tokens in one", token: h.teller + " " + h.reader, path: tillKey, online: no, offline: no},
		{name: "the node's certificate and a token", cert: node, token: h.teller, path: tillKey, online: no, offline: no},
		{name: "a token as browsers send it", path: tillKey, headers: []string{"Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io." +
			base64.RawURLEncoding.EncodeToString([]byte(h.teller))}, online: []int{401, 403}, offline: refused},
		{name: "too large headers", token: h.teller, path: tillKey, headers: []string{"X-Large: " + strings.Repeat("x", 1<<20)}, online: []int{0, 431}, offline: []int{0, 431}},
		{name: "an older HTTP", raw: "GET " + tillKey + " HTTP/1.0\r\n\r\n", online: no, offline: no},
	}
	for name, token := range h.badTokens(h.reader, h.teller) {
		all = append(all, exchange{name: "token: " + name, token: token, path: tillKey, online: no, offline: no})
		all = append(all, exchange{name: "token, list: " + name, token: token, path: shopPath, online: no, offline: no})
	}
	for name, cert := range h.badCertificates() {
		all = append(all, exchange{name: "certificate: " + name, cert: cert, path: tillKey, online: no, offline: no, says: "was not made by this node"})
		all = append(all, exchange{name: "certificate and token: " + name, cert: cert, token: h.reader, path: tillKey, online: no, offline: no})
	}
	return all
}
