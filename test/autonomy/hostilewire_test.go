//go:build e2e

package autonomy

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// paths are ways of the teller to write the path of the shop's Secret. What the API server makes of a path is its business; the proxy
// answers as it does.
func (h *hostile) paths() {
	h.Helper()
	for _, path := range []string{
		"/api/v1/namespaces/bank/../shop/secrets/till-key",
		"/api/v1/namespaces/bank/%2e%2e/shop/secrets/till-key",
		"/api/v1/namespaces/bank/secrets/../../shop/secrets/till-key",
		"/api/v1/namespaces/bank/secrets/..%2f..%2fshop%2fsecrets%2ftill-key",
		"/api/v1/namespaces/bank%2f..%2fshop/secrets/till-key",
		"//api/v1/namespaces/shop/secrets/till-key",
		"/api//v1/namespaces/shop/secrets/till-key",
		"/./api/v1/namespaces/shop/secrets/till-key",
		"/version/../api/v1/namespaces/shop/secrets/till-key",
		"/openapi/v3/../../api/v1/namespaces/shop/secrets/till-key",
		tillKey + "/", tillKey + "?", tillKey + "%00", tillKey + ";x=1", tillKey + "/status", tillKey + "?namespace=shop",
		"/api/v1/watch/namespaces/shop/secrets/till-key",
		"/api/v1/proxy/namespaces/shop/secrets/till-key",
		bankPath + "?fieldSelector=metadata.namespace%3Dshop",
		bankPath + "?fieldSelector=metadata.name%3Dtill-key,metadata.namespace%3Dshop",
		bankPath + "/till-key?namespace=shop",
	} {
		got := h.send(exchange{token: h.teller, path: path})
		h.leaks(path, got)
		if h.offline {
			continue
		}
		want := h.sendTo(strings.TrimPrefix(h.lab.Server(), "https://"), h.clusterTLS(), exchange{token: h.teller, path: path})
		if got.code != want.code {
			h.Errorf("%s: %d through the proxy, %d from the API server", path, got.code, want.code)
		}
	}
}

// clusterTLS is what to dial the API server with, straight.
func (h *hostile) clusterTLS() *tls.Config {
	h.Helper()
	raw, err := os.ReadFile(h.lab.CAFile())
	h.must(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(raw)
	return &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
}

// absolute are requests that name another server. It is never called.
func (h *hostile) absolute() {
	h.Helper()
	evil, err := net.Listen("tcp", "127.0.0.1:0")
	h.must(err)
	var calls atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := evil.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			conn.Close()
		}
	}()
	at := evil.Addr().String()
	authorization := "\r\nAuthorization: Bearer " + h.teller + "\r\nConnection: close\r\n\r\n"
	for _, line := range []string{
		"GET https://" + at + tillKey + " HTTP/1.1\r\nHost: " + at,
		"GET http://" + at + tillKey + " HTTP/1.1\r\nHost: " + h.proxy,
		"GET https://user:password@" + at + tillKey + " HTTP/1.1\r\nHost: " + at,
		"GET " + tillKey + " HTTP/1.1\r\nHost: " + at,
		"GET " + tillKey + " HTTP/1.1\r\nHost: " + h.proxy + "\r\nX-Forwarded-Host: " + at,
		"GET //" + at + tillKey + " HTTP/1.1\r\nHost: " + h.proxy,
		"GET @" + at + tillKey + " HTTP/1.1\r\nHost: " + h.proxy,
		"GET \\\\" + at + tillKey + " HTTP/1.1\r\nHost: " + h.proxy,
		"CONNECT " + at + " HTTP/1.1\r\nHost: " + at,
		"TRACE " + tillKey + " HTTP/1.1\r\nHost: " + h.proxy,
		"OPTIONS * HTTP/1.1\r\nHost: " + h.proxy,
	} {
		got := h.send(exchange{raw: line + authorization})
		h.leaks(line, got)
		if got.code/100 == 2 && !strings.HasPrefix(line, "OPTIONS") {
			h.Errorf("%s: %d %s", line, got.code, got.body)
		}
	}
	h.must(evil.Close())
	if <-done; calls.Load() > 0 {
		h.Errorf("the proxy called another server %d times", calls.Load())
	}
}

// frames are requests whose end two parsers could see at different places. The teller's connection is never answered for the reader's, or
// the node's, request.
func (h *hostile) frames() {
	h.Helper()
	smuggled := "GET " + tillKey + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	head := "POST /api/v1/namespaces/bank/configmaps?dryRun=All HTTP/1.1\r\nHost: " + h.proxy + "\r\nAuthorization: Bearer " + h.teller + "\r\nContent-Type: application/json\r\n"
	for name, raw := range map[string]string{
		"two lengths":              head + fmt.Sprintf("Content-Length: 2\r\nContent-Length: %d\r\n\r\n{}%s", 2+len(smuggled), smuggled),
		"two equal lengths":        head + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + smuggled,
		"length and chunks":        head + fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s", 5+len(smuggled), smuggled),
		"chunks and length":        head + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + smuggled,
		"two transfer encodings":   head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + smuggled,
		"chunked, or is it":        head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + smuggled,
		"a space before the colon": head + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"a folded header":          head + "X-Folded: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}" + smuggled,
		"a negative length":        head + "Content-Length: -1\r\n\r\n" + smuggled,
		"a length with a sign":     head + "Content-Length: +2\r\n\r\n{}" + smuggled,
		"a bad chunk":              head + "Transfer-Encoding: chunked\r\n\r\n2;\n\r\n{}\r\n0\r\n\r\n" + smuggled,
		"a chunk of all there is":  head + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}" + smuggled,
		"a NUL in a header":        head + "X-Nul: a\x00b\r\nContent-Length: 2\r\n\r\n{}" + smuggled,
		"a line of its own":        head + "X-Line: a\nAuthorization: Bearer " + h.reader + "\r\nContent-Length: 2\r\n\r\n{}" + smuggled,
	} {
		h.leaks(name, h.send(exchange{raw: raw + "\r\n"}))
	}
	// Without TLS there is no answer but that.
	conn, err := net.DialTimeout("tcp", h.proxy, 10*time.Second)
	h.must(err)
	defer conn.Close()
	h.must(conn.SetDeadline(time.Now().Add(10 * time.Second)))
	_, err = io.WriteString(conn, "GET "+tillKey+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+h.reader+"\r\n\r\n")
	h.must(err)
	plain, err := io.ReadAll(conn)
	if err == nil && !strings.HasPrefix(string(plain), "HTTP/1.0 400") {
		h.Errorf("without TLS: %s", plain)
	}
	h.leaks("without TLS", answer{http.StatusOK, string(plain)})
}
