package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestServerSpeaksTLSOnly(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var ready atomic.Bool
	registry := prometheus.NewRegistry()
	newMetrics(registry).rejected("Unsigned")
	s, err := newServer("127.0.0.1:0", "", "", registry, func(context.Context) error {
		if !ready.Load() {
			return errors.New("not yet")
		}
		return nil
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Start(ctx) }()
	address := s.listener.Addr().String()
	cert, err := x509.ParseCertificate(s.tls.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	get := func(url string) (int, string) {
		t.Helper()
		resp, err := (&http.Client{Transport: transport}).Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if code, body := get("https://" + address + "/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	if code, body := get("https://" + address + "/readyz"); code != 503 || body != "not yet\n" {
		t.Errorf("/readyz: %d %q", code, body)
	}
	ready.Store(true)
	if code, _ := get("https://" + address + "/readyz"); code != 200 {
		t.Errorf("/readyz: %d", code)
	}
	if code, body := get("https://" + address + "/metrics"); code != 200 || !strings.Contains(body, `holdfast_hub_rejected_revisions_total{reason="Unsigned"} 1`) {
		t.Errorf("/metrics: %d %s", code, body)
	}
	if code, _ := get("http://" + address + "/healthz"); code != http.StatusBadRequest {
		t.Errorf("plain http: %d, want 400", code)
	}
	if code, _ := get("https://" + address + "/debug/pprof/"); code != 404 {
		t.Errorf("pprof: %d", code)
	}
	transport.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestServerRefusesBadCertificateFiles(t *testing.T) {
	_, err := newServer("127.0.0.1:0", "/nowhere.crt", "/nowhere.key", prometheus.NewRegistry(), nil, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "read the serving certificate: open /nowhere.crt") {
		t.Errorf("err = %v", err)
	}
}
