package proxy

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/upstream"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Who answered a request.
const (
	live    = "online"
	cached  = "offline"
	refused = "refused"
)

// classes are the resources that metrics name. A client can ask for any name, so the rest is "other".
var classes = map[string]bool{
	"nodes": true, "pods": true, "services": true, "endpoints": true, "configmaps": true, "secrets": true, "events": true, "namespaces": true,
	"serviceaccounts": true, "persistentvolumes": true, "persistentvolumeclaims": true, "endpointslices": true, "leases": true,
	"csidrivers": true, "csinodes": true, "volumeattachments": true, "runtimeclasses": true, "deployments": true, "replicasets": true,
	"daemonsets": true, "statefulsets": true, "jobs": true, "cronjobs": true, "servicecidrs": true, "clustertrustbundles": true,
	"podcertificaterequests": true, "resourceclaims": true, "customresourcedefinitions": true, "networkpolicies": true, "ingresses": true,
	"tokenreviews": true, "subjectaccessreviews": true, "certificatesigningrequests": true, "edgenodes": true, "nodepools": true,
}

// verbs are those that metrics name.
var verbs = map[string]bool{
	"get": true, "list": true, "watch": true, "create": true, "update": true, "patch": true, "delete": true, "deletecollection": true,
}

func class(r scope.Resource) string {
	switch {
	case r.Resource == "":
		return "none"
	case classes[r.Resource]:
		return r.Resource
	}
	return "other"
}

// metrics are the server's; docs/proxy.md lists them.
type metrics struct {
	server   *Server
	requests *prometheus.CounterVec
	tees     *prometheus.CounterVec
	relists  *prometheus.CounterVec

	mu      sync.Mutex // guards what follows
	now     upstream.State
	since   time.Time
	offline time.Duration // in all, without now
}

var (
	onlineDesc  = prometheus.NewDesc("holdfast_proxy_online", "1 if an API server answers this node.", nil, nil)
	offlineDesc = prometheus.NewDesc("holdfast_proxy_offline_seconds_total", "How long this node was offline since the agent started.", nil, nil)
	ageDesc     = prometheus.NewDesc("holdfast_proxy_age_seconds", "How long ago upstream last confirmed what is kept of a resource for the node; the oldest scope counts.", []string{"resource"}, nil)
	dirtyDesc   = prometheus.NewDesc("holdfast_proxy_scopes", "Scopes that are kept, for the node and its pods, and those of them that are behind what upstream sent.", []string{"state"}, nil)
	connsDesc   = prometheus.NewDesc("holdfast_proxy_connections", "Open connections, by who came over them.", []string{"listener", "caller"}, nil)
	evictedDesc = prometheus.NewDesc("holdfast_proxy_connections_evicted_total", "Connections closed because nothing good came over them.", []string{"listener"}, nil)
	watchesDesc = prometheus.NewDesc("holdfast_proxy_watches_followed", "Watches whose events go to the cache.", nil, nil)
)

func newMetrics(s *Server) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &metrics{
		server:   s,
		requests: counter("holdfast_proxy_requests_total", "Requests by who answered, verb and resource.", "mode", "verb", "resource"),
		tees:     counter("holdfast_proxy_unkept_total", "Answers that were passed on but could not be kept, by why.", "reason"),
		relists:  counter("holdfast_proxy_relists_total", "Lists that the proxy asked for itself, by outcome.", "outcome"),
		since:    time.Now(),
	}
}

// request counts a request.
func (m *metrics) request(mode string, c *call) {
	verb := c.req.Verb
	if !verbs[verb] {
		verb = "other"
	}
	m.requests.WithLabelValues(mode, verb, class(c.req.Resource)).Inc()
}

// state notes that the link's state changed.
func (m *metrics) state(s upstream.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now == upstream.Offline {
		m.offline += time.Since(m.since)
	}
	m.now, m.since = s, time.Now()
}

// Collector gives the server's metrics.
func (s *Server) Collector() prometheus.Collector { return s.metrics }

// Describe is part of prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	m.requests.Describe(out)
	m.tees.Describe(out)
	m.relists.Describe(out)
	for _, d := range []*prometheus.Desc{onlineDesc, offlineDesc, ageDesc, dirtyDesc, connsDesc, evictedDesc, watchesDesc} {
		out <- d
	}
}

// Collect is part of prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	m.requests.Collect(out)
	m.tees.Collect(out)
	m.relists.Collect(out)
	put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	m.mu.Lock()
	online, offline := 0.0, m.offline
	switch m.now {
	case upstream.Online:
		online = 1
	case upstream.Offline:
		offline += time.Since(m.since)
	}
	m.mu.Unlock()
	put(onlineDesc, prometheus.GaugeValue, online)
	put(offlineDesc, prometheus.CounterValue, offline.Seconds())
	m.ages(put)
	for i, crowd := range m.server.crowds {
		strangers, known, nodes, evicted := crowd.counts()
		at := m.server.cfg.Listeners[i].Addr().String()
		put(connsDesc, prometheus.GaugeValue, float64(strangers), at, "unknown")
		put(connsDesc, prometheus.GaugeValue, float64(known), at, "token")
		put(connsDesc, prometheus.GaugeValue, float64(nodes), at, "node")
		put(evictedDesc, prometheus.CounterValue, float64(evicted), at)
	}
	put(watchesDesc, prometheus.GaugeValue, float64(m.server.feeds.watches()))
}

// ages says how old what is kept for the node is.
func (m *metrics) ages(put func(*prometheus.Desc, prometheus.ValueType, float64, ...string)) {
	oldest := map[string]time.Time{}
	clean, dirty := 0, 0
	for _, info := range m.server.cfg.Store.Scopes("", scope.Resource{}) {
		if info.Dirty == "" {
			clean++
		} else {
			dirty++
		}
		if info.Key.Identity != m.server.node() {
			continue
		}
		name := class(info.Key.Resource)
		if at, ok := oldest[name]; !ok || info.Read.Before(at) {
			oldest[name] = info.Read
		}
	}
	for name, at := range oldest {
		put(ageDesc, prometheus.GaugeValue, max(0, m.server.cfg.Now().Sub(at).Seconds()), name)
	}
	put(dirtyDesc, prometheus.GaugeValue, float64(clean), "clean")
	put(dirtyDesc, prometheus.GaugeValue, float64(dirty), "dirty")
}

// node is the node's identity.
func (s *Server) node() string { return "system:node:" + s.cfg.Node }
