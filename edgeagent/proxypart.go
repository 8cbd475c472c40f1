package edgeagent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/kube"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/address"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/kubelet"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/offline"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/outbox"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/request"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/rewrite"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/selftest"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/edgeagent/store/cache"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

// ProxyPart is the name of the autonomy proxy among the parts.
const ProxyPart = "proxy"

// What the proxy keeps in the state folder: a folder of its own, so that a damaged cache takes nothing with it. The key that Secrets in it
// are sealed with lies apart from it.
const (
	cacheDir       = "cache"
	sealingKeyFile = "cache.key"
)

const (
	// keptEvents is how many events are kept while offline; older ones are lost first.
	keptEvents = 1000
	// replayAgain is how long after a replay that failed, while the link is up, the next is tried.
	replayAgain = 10 * time.Second
	// copyEvery bounds how often the cache's file is copied, if it changed: each copy writes all of it.
	copyEvery = time.Hour
	// selftestEvery is how often the boot is replayed against the cache. Until it is answered completely, as while the kubelet is being
	// put behind the proxy or pods arrive, selftestSoon is.
	selftestEvery, selftestSoon = 5 * time.Minute, 20 * time.Second
)

// kubeletCertificates gives the files that may hold what the kubelet serves exec and logs with.
func kubeletCertificates(state string) []string {
	dir := "/var/lib/kubelet/pki"
	if at, err := kubelet.Read(state); err == nil && at.Files.CertDir != "" {
		dir = at.Files.CertDir
	}
	return []string{filepath.Join(dir, "kubelet-server-current.pem"), filepath.Join(dir, "kubelet.crt")}
}

// proxyPart is the autonomy proxy of an enrolled node, with all that it is made of.
type proxyPart struct {
	node   string
	folder string // the state folder
	log    *slog.Logger
	now    func() time.Time
	server string // the kubeconfig's API server

	cache    *cache.Cache
	link     *upstream.Link
	outbox   *outbox.Outbox
	offline  *offline.Handler
	serving  *proxy.Server
	upkeep   *identity.Maintenance
	rewriter *rewrite.Rewriter

	listeners []proxy.Listener
	relists   atomic.Pointer[proxy.Server] // serving, for the cache's goroutine
	online    chan struct{}                // the link's state changed

	mu sync.Mutex // guards what follows
	// settings are those in force, to tell whether a new plan changes any.
	settings plan.Proxy
}

// openProxy opens the proxy's cache and listeners. It needs no network.
func (a *Agent) openProxy(node string, settings plan.Proxy) (*proxyPart, error) {
	p := &proxyPart{node: node, folder: a.opt.State, log: a.log.With("part", ProxyPart), now: a.opt.Now, online: make(chan struct{}, 1)}
	if err := p.open(a.opt, settings); err != nil {
		p.close()
		return nil, fmt.Errorf("autonomy proxy: %w", err)
	}
	return p, nil
}

func (p *proxyPart) open(opt Options, settings plan.Proxy) error {
	cfg, err := kube.Load(filepath.Join(opt.State, credentialsDir, kubeconfigFile))
	if err != nil {
		return fmt.Errorf("%w; enrol again with --kubeconfig to replace it", err)
	}
	p.server = cfg.Server.String()
	authority, err := localAuthority(opt.State, p.node)
	if err != nil {
		return err
	}
	if err := p.listen(opt, authority); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(opt.State, cacheDir), 0o700); err != nil {
		return fmt.Errorf("make the cache's folder: %w", err)
	}
	p.cache, err = cache.Open(filepath.Join(opt.State, cacheDir), cache.Options{
		Log: p.log, Now: opt.Now, Node: p.identity(), MaxBytes: settings.CacheMB << 20,
		SealingKeyFile: filepath.Join(opt.State, credentialsDir, sealingKeyFile), Rings: map[string]int{outbox.EventsBucket: keptEvents},
		OnDirty: func(key scope.Key, _ string) {
			if server := p.relists.Load(); server != nil {
				server.Relist(key)
			}
		},
	})
	if err != nil {
		return err
	}
	if p.outbox, err = outbox.New(outbox.Config{Store: p.cache, Log: p.log, Now: opt.Now}); err != nil {
		return err
	}
	credential := nodeCredential(opt.State, cfg)
	if p.link, err = newLink(cfg, credential, p.servers(settings), opt.Version, p.log); err != nil {
		return err
	}
	p.rewriter = rewrite.New(rewrite.Config{Node: p.node, CA: authority.CA(), Address: p.podAddress(opt), Log: p.log})
	p.offline = offline.New(offline.Config{
		Node: p.node, Store: p.cache, Outbox: p.outbox, Rewriter: p.rewriter, Log: p.log, Now: opt.Now,
		Kubelet: offline.Kubelet{Certificates: kubeletCertificates(opt.State)},
	})
	p.upkeep = &identity.Maintenance{
		Node: p.node, Authority: authority, Credential: credential, Upstream: p.link, Log: p.log, Now: p.newest(opt.Now), After: time.After,
		Online:   func() bool { return p.link.State() == upstream.Online },
		Document: p.document,
		Keep: func(path, contentType string, body []byte) {
			p.cache.PutDocument(p.identity(), path, scope.Document{ContentType: contentType, Body: body, Read: opt.Now()})
		},
	}
	p.settings = settings
	p.serving, err = proxy.New(proxy.Config{
		Node: p.node, Listeners: p.listeners, TLS: authority.ServerTLS(), Link: p.link, Store: p.cache, Offline: p.offline, Rewriter: p.rewriter,
		Authenticator: identity.New(identity.Config{Node: p.node, ClientCAs: authority.ClientCAs(), Document: p.document, Now: opt.Now, Newest: p.cache.Newest}),
		Settings:      proxy.Settings{NeverCache: settings.NeverCache}, Log: p.log, Now: opt.Now, Changed: p.changed,
	})
	p.relists.Store(p.serving)
	return err
}

// newLink makes the link to the API servers with the node's credential.
func newLink(cfg kube.Config, credential *identity.Credential, servers []string, version string, log *slog.Logger) (*upstream.Link, error) {
	c := upstream.Config{Servers: servers, ServerName: cfg.ServerName, UserAgent: userAgent(version), Log: log}
	if cfg.CA.Set() {
		raw, err := cfg.CA.Read()
		if err != nil {
			return nil, fmt.Errorf("read the cluster's authority: %w", err)
		}
		c.CA = x509.NewCertPool()
		if !c.CA.AppendCertsFromPEM(raw) {
			return nil, errors.New("certificate-authority of the kubeconfig holds no certificate")
		}
	}
	if credential != nil {
		c.Certificate = func() (*tls.Certificate, error) { return credential.Certificate() }
	} else {
		c.Token = func() (string, error) {
			token, err := cfg.Token.Read()
			return strings.TrimSpace(string(token)), err
		}
	}
	c.Proxy = func(u *url.URL) (*url.URL, error) { return http.ProxyFromEnvironment(&http.Request{URL: u}) }
	if cfg.Proxy != nil {
		c.Proxy = func(*url.URL) (*url.URL, error) { return cfg.Proxy, nil }
	}
	return upstream.New(c)
}

// identity is the name that the node reads under.
func (p *proxyPart) identity() string { return "system:node:" + p.node }

// servers are the API servers: the fleet's, or the kubeconfig's.
func (p *proxyPart) servers(settings plan.Proxy) []string {
	if len(settings.Upstreams) > 0 {
		return settings.Upstreams
	}
	return []string{p.server}
}

// document gives what upstream answered the node last for a path, nil if it never did.
func (p *proxyPart) document(path string) []byte {
	d, ok, err := p.cache.Document(p.identity(), path)
	if err != nil || !ok {
		return nil
	}
	raw, err := d.Plain()
	if err != nil {
		p.log.Warn("read a kept document", "path", path, "err", err)
		return nil
	}
	return raw
}

// newest is the clock, or the newest time the node has evidence of.
func (p *proxyPart) newest(now func() time.Time) func() time.Time {
	return func() time.Time {
		if newest := p.cache.Newest(); newest.After(now()) {
			return newest
		}
		return now()
	}
}

// listen opens the addresses. Without that for pods the node's own components still have theirs.
func (p *proxyPart) listen(opt Options, authority *identity.Authority) error {
	for _, at := range []struct {
		address string
		pods    bool
	}{{opt.ProxyAddress, false}, {opt.PodAddress, true}} {
		if at.address == NoAddress {
			continue
		}
		addr, err := netip.ParseAddrPort(at.address)
		if err != nil {
			return err
		}
		if at.pods {
			if err := ensurePodAddress(opt.State, addr.Addr()); err != nil {
				p.log.Warn("pods may not reach the proxy", "address", addr, "err", err)
			}
		}
		l, err := address.Listen(context.Background(), addr)
		if err != nil && at.pods {
			p.log.Warn("pods do not reach the proxy", "address", addr, "err", err)
			continue
		}
		if err != nil {
			return fmt.Errorf("%w; choose another with --proxy-address, or %q", err, NoAddress)
		}
		p.listeners = append(p.listeners, proxy.Listener{Listener: l, Pods: at.pods})
		if err := authority.Cover(addr.Addr()); err != nil {
			return err
		}
	}
	return nil
}

// podAddress is where pods reach the proxy; the zero address if they do not.
func (p *proxyPart) podAddress(opt Options) netip.AddrPort {
	for _, l := range p.listeners {
		if l.Pods {
			if at, err := netip.ParseAddrPort(opt.PodAddress); err == nil {
				return at
			}
		}
	}
	return netip.AddrPort{}
}

// close lets go of what open opened. It may be called twice.
func (p *proxyPart) close() error {
	if p == nil {
		return nil
	}
	for _, l := range p.listeners {
		l.Close() // the server closes those that it serves
	}
	if p.cache == nil {
		return nil
	}
	return p.cache.Close()
}

// enforce puts the settings of a plan in force. The cache's size counts from the next start on.
func (p *proxyPart) enforce(settings plan.Proxy) {
	p.mu.Lock()
	before := p.settings
	p.settings = settings
	p.mu.Unlock()
	if !slices.Equal(before.NeverCache, settings.NeverCache) {
		p.serving.SetSettings(proxy.Settings{NeverCache: settings.NeverCache})
	}
	if !slices.Equal(p.servers(before), p.servers(settings)) {
		if err := p.link.SetServers(p.servers(settings)); err != nil {
			p.log.Error("change the API servers", "err", err)
		}
	}
}

// run serves until ctx ends. report is told how the selftest goes.
func (p *proxyPart) run(ctx context.Context, report func(condition.Condition)) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { p.link.Run(ctx) })
	wg.Go(func() { p.offline.Run(ctx) })
	wg.Go(func() { p.upkeep.Run(ctx) })
	wg.Go(func() { p.replay(ctx, report) })
	wg.Go(func() { p.selftests(ctx, report) })
	wg.Go(func() { watchState(ctx, p.state, report) })
	err := p.serving.Run(ctx)
	cancel()
	wg.Wait()
	return err
}

// changed is told of each state of the link.
func (p *proxyPart) changed(s upstream.State) {
	if s == upstream.Online {
		p.upkeep.Reconnected()
	}
	select {
	case p.online <- struct{}{}:
	default:
	}
}

// replay sends what waits in the outbox each time the link comes up, and again while it is up if something went wrong.
func (p *proxyPart) replay(ctx context.Context, report func(condition.Condition)) {
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.online:
		case <-again:
		}
		again = nil
		if p.link.State() != upstream.Online {
			continue
		}
		err := p.outbox.Replay(ctx, func(r *http.Request) (*http.Response, error) { return p.link.RoundTrip(r, true) })
		if ctx.Err() != nil {
			return
		}
		report(p.outbox.Condition())
		if err != nil {
			p.log.Debug("replay what was written offline", "err", err)
			again = time.After(replayAgain)
		}
	}
}

// selftest asks whether the node would come back offline.
func (p *proxyPart) selftest(ctx context.Context, now func() time.Time) (selftest.Result, error) {
	return selftest.Run(ctx, selftest.Config{
		Node: p.node, Scopes: p.cache.Scopes, Now: now,
		Serve: func(w http.ResponseWriter, r *http.Request, req request.Request) {
			p.offline.Serve(w, r, req, offline.Caller{Name: p.identity(), Node: true})
		},
	})
}

// selftest replays the boot for whoever asks through the control socket.
func (a *Agent) selftest(ctx context.Context) (selftest.Result, error) {
	if a.proxy == nil {
		return selftest.Result{}, errors.New("this agent runs no autonomy proxy: enrol with --kubeconfig, and run the part proxy")
	}
	result, err := a.proxy.selftest(ctx, a.opt.Now)
	if err == nil && result.Complete {
		a.proxy.copyCache(ctx)
	}
	return result, err
}

// copyCache keeps a second file of a cache that is known to be complete.
func (p *proxyPart) copyCache(ctx context.Context) {
	if err := p.cache.Copy(ctx); err != nil && ctx.Err() == nil {
		p.log.Warn("the cache has no copy for when it is damaged", "err", err)
	}
}

// selftests keeps the condition Autonomous true to what is cached.
func (p *proxyPart) selftests(ctx context.Context, report func(condition.Condition)) {
	var copied time.Time
	watchBoot(ctx, func() bool {
		if !p.used() {
			return false
		}
		result, err := p.selftest(ctx, p.now)
		if err != nil {
			return false
		}
		report(result.Condition())
		report(p.outbox.Condition())
		if result.Complete && time.Since(copied) >= copyEvery {
			p.copyCache(ctx)
			copied = time.Now()
		}
		return result.Complete
	})
}

// watchBoot runs a selftest until ctx ends: now and then while it is complete, soon again while it is not.
func watchBoot(ctx context.Context, complete func() bool) {
	for next := selftestSoon; wait(ctx, next); {
		if next = selftestSoon; complete() {
			next = selftestEvery
		}
	}
}
