package edgeagent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// healthConns bounds the connections to health and metrics: any user of the node can open them, and each costs memory. A
// further one waits until another is closed or was idle for a minute.
const healthConns = 32

// listen opens the control socket and, unless it is off, the address of health and metrics.
func (a *Agent) listen() error {
	var err error
	if a.control, err = listenControl(a.opt.State); err != nil {
		return err
	}
	if a.opt.Address == NoAddress {
		return nil
	}
	authority, err := localAuthority(a.opt.State, a.store.Contents().Enrolment.Node)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", a.opt.Address)
	if err != nil {
		return fmt.Errorf("serve health and metrics: %w; choose another with --address, or %q", err, NoAddress)
	}
	a.health = tls.NewListener(netutil.LimitListener(l, healthConns), localTLS(authority))
	return nil
}

// HealthAddress is where health and metrics are served; "" if they are not.
func (a *Agent) HealthAddress() string {
	if a.health == nil {
		return ""
	}
	return a.health.Addr().String()
}

// serve serves control, health and metrics until the function it gives is called.
func (a *Agent) serve(wg *sync.WaitGroup) (stop func()) {
	servers := map[*http.Server]net.Listener{a.server(a.controlHandler()): a.control}
	if a.health != nil {
		servers[a.server(a.healthHandler())] = a.health
	}
	for s, l := range servers {
		wg.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				a.log.Error("serve", "address", l.Addr().String(), "err", err)
			}
		})
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for s := range servers {
			if s.Shutdown(ctx) != nil {
				s.Close()
			}
		}
	}
}

func (a *Agent) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ConnContext: withPeer, ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
}

func (a *Agent) healthHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answerHealth(w, a.unhealthy()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answerHealth(w, a.unready()) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelWarn)}))
	return mux
}

func answerHealth(w http.ResponseWriter, wrong []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(wrong) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, strings.Join(wrong, "\n"))
		return
	}
	fmt.Fprintln(w, "ok")
}

// unhealthy names what only a restart may mend: parts that hang.
func (a *Agent) unhealthy() []string {
	var out []string
	for _, c := range a.loop.Conditions() {
		if c.Reason == condition.ReasonHung {
			out = append(out, c.Type+": "+c.Message)
		}
	}
	return out
}

// unready names why the node may not be as a plan says: there is none yet, or a part is not done with it.
func (a *Agent) unready() []string {
	if a.store.State().InForce == nil {
		return []string{"there is no plan yet"}
	}
	var out []string
	for _, c := range a.loop.Conditions() {
		if c.Status != condition.True {
			out = append(out, fmt.Sprintf("%s: %s: %s", c.Type, c.Reason, c.Message))
		}
	}
	return out
}
