package hub

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// server answers /healthz, /readyz and /metrics over TLS, and nothing in plain text. It runs on every replica.
type server struct {
	listener net.Listener
	tls      *tls.Config
	watcher  *certwatcher.CertWatcher // nil with a certificate made at start
	handler  http.Handler
	log      *slog.Logger
}

// newServer listens on address. Without certificate files it makes a certificate that lives as long as the process: good
// for the kubelet's probes, which do not check it.
func newServer(address, certFile, keyFile string, metrics prometheus.Gatherer, ready func(context.Context) error, log *slog.Logger) (*server, error) {
	s := &server{tls: &tls.Config{MinVersion: tls.VersionTLS13}, log: log, handler: routes(metrics, ready)}
	if certFile != "" {
		watcher, err := certwatcher.New(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("read the serving certificate: %w", err)
		}
		s.watcher, s.tls.GetCertificate = watcher, watcher.GetCertificate
	} else {
		cert, err := selfSigned(time.Now())
		if err != nil {
			return nil, fmt.Errorf("make a serving certificate: %w", err)
		}
		s.tls.Certificates = []tls.Certificate{cert}
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve health and metrics: %w", err)
	}
	s.listener = listener
	return s, nil
}

// NeedLeaderElection says that replicas that do not lead answer, too.
func (s *server) NeedLeaderElection() bool { return false }

// Start serves until ctx ends.
func (s *server) Start(ctx context.Context) error {
	srv := &http.Server{Handler: s.handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if s.watcher != nil {
			if err := s.watcher.Start(ctx); err != nil {
				s.log.Error("watch the serving certificate", "err", err)
			}
		}
		<-ctx.Done()
		stop, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer done()
		_ = srv.Shutdown(stop) // what is still open after five seconds ends with the process
	}()
	err := srv.Serve(tls.NewListener(s.listener, s.tls))
	cancel()
	<-watched
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func routes(metrics prometheus.Gatherer, ready func(context.Context) error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return mux
}

func selfSigned(now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: fieldManager},
		DNSNames:     []string{fieldManager, "localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
