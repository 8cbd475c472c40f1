package hub

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/reconciler/hub/rollup"
)

// metrics are what the hub counts. docs/hub.md lists them. Its methods are safe for concurrent use.
type metrics struct {
	sourceReady  prometheus.Gauge
	verifiedNow  *prometheus.GaugeVec
	rejections   *prometheus.CounterVec
	acceptedDate prometheus.Gauge
	rollouts     prometheus.Counter
	refusals     prometheus.Counter
	brokenPools  prometheus.Gauge
	plannedNodes prometheus.Gauge
	poolNodes    *prometheus.GaugeVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		sourceReady:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_hub_source_ready", Help: "1 if the fleet repo was read at the last poll."}),
		verifiedNow:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "holdfast_hub_verified", Help: "1 if the newest revision is the accepted one; 0 with the reason if it is rejected."}, []string{"reason"}),
		rejections:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_hub_rejected_revisions_total", Help: "Revisions rejected, by reason."}, []string{"reason"}),
		acceptedDate: prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_hub_accepted_revision_timestamp_seconds", Help: "Committer date of the newest accepted revision."}),
		rollouts:     prometheus.NewCounter(prometheus.CounterOpts{Name: "holdfast_hub_rollouts_total", Help: "Revisions rolled out."}),
		refusals:     prometheus.NewCounter(prometheus.CounterOpts{Name: "holdfast_hub_refused_rollouts_total", Help: "Accepted revisions not rolled out because they cannot be read."}),
		brokenPools:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_hub_broken_pools", Help: "Pools of the revision rolled out last that give no plan."}),
		plannedNodes: prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_hub_planned_nodes", Help: "Nodes of the revision rolled out last."}),
		poolNodes:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "holdfast_hub_pool_nodes", Help: "Nodes of a pool by state: all, ready, synced."}, []string{"pool", "state"}),
	}
	registry.MustRegister(m.sourceReady, m.verifiedNow, m.rejections, m.acceptedDate, m.rollouts, m.refusals, m.brokenPools, m.plannedNodes, m.poolNodes)
	return m
}

func (m *metrics) source(ready bool) { m.sourceReady.Set(number(ready)) }

func (m *metrics) verified(accepted bool, reason string) {
	m.verifiedNow.Reset()
	m.verifiedNow.WithLabelValues(reason).Set(number(accepted))
}

func (m *metrics) rejected(reason string) { m.rejections.WithLabelValues(reason).Inc() }

func (m *metrics) accepted(at time.Time) { m.acceptedDate.Set(float64(at.Unix())) }

func (m *metrics) rolledOut(r *rollout) {
	m.rollouts.Inc()
	m.brokenPools.Set(float64(len(r.broken)))
	m.plannedNodes.Set(float64(len(r.nodes)))
}

func (m *metrics) refused() { m.refusals.Inc() }

func (m *metrics) pool(name string, sum rollup.Pool) {
	m.poolNodes.WithLabelValues(name, "all").Set(float64(sum.Nodes))
	m.poolNodes.WithLabelValues(name, "ready").Set(float64(sum.Ready))
	m.poolNodes.WithLabelValues(name, "synced").Set(float64(sum.Synced))
}

func (m *metrics) forgetPool(name string) {
	m.poolNodes.DeletePartialMatch(prometheus.Labels{"pool": name})
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
