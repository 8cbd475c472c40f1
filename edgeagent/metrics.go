package edgeagent

import (
	rtmetrics "runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/reconciler"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// metrics are the agent's own; docs/agent.md lists them. What the board knows is read from it when it is asked for.
type metrics struct {
	agent      *Agent
	registry   *prometheus.Registry
	polls      *prometheus.CounterVec
	verdicts   *prometheus.CounterVec
	noPlans    *prometheus.CounterVec
	reconciles *prometheus.CounterVec
	seconds    *prometheus.CounterVec
	toApplied  prometheus.Gauge
	fetched    atomic.Pointer[time.Time] // when the plan that is being applied was fetched
}

var (
	infoDesc      = prometheus.NewDesc("holdfast_agent_info", "What runs where; always 1.", []string{"node", "pool", "fleet", "version"}, nil)
	conditionDesc = prometheus.NewDesc("holdfast_agent_condition", "The node's conditions; 1 for the status and reason each one has.", []string{"type", "status", "reason"}, nil)
	revisionDesc  = prometheus.NewDesc("holdfast_agent_revision_timestamp_seconds", "When the newest accepted revision was made.", nil, nil)
	planDesc      = prometheus.NewDesc("holdfast_agent_plan_info", "The plan in force and the revision it comes from; always 1.", []string{"digest", "revision"}, nil)
)

func newMetrics(a *Agent) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		agent:      a,
		registry:   prometheus.NewRegistry(),
		polls:      counter("holdfast_agent_polls_total", "Polls of the fleet repo by outcome.", "reason"),
		verdicts:   counter("holdfast_agent_verdicts_total", "Verdicts on revisions by reason.", "reason"),
		noPlans:    counter("holdfast_agent_planless_total", "Accepted revisions that gave this node no plan, by reason.", "reason"),
		reconciles: counter("holdfast_agent_reconciles_total", "Finished reconciles by part and outcome.", "part", "reason"),
		seconds:    counter("holdfast_agent_reconcile_seconds_total", "Time spent reconciling by part.", "part"),
		toApplied:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "holdfast_agent_fetched_to_applied_seconds", Help: "How long the newest plan took from fetched to applied."}),
	}
	allocated := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "holdfast_agent_allocations_total", Help: "Objects allocated on the heap."}, allocations)
	m.registry.MustRegister(m.polls, m.verdicts, m.noPlans, m.reconciles, m.seconds, m.toApplied, allocated, m)
	return m
}

// allocations counts the objects that were ever allocated on the heap.
func allocations() float64 {
	sample := []rtmetrics.Sample{{Name: "/gc/heap/allocs:objects"}}
	rtmetrics.Read(sample)
	return float64(sample[0].Value.Uint64())
}

func (m *metrics) poll(err error) {
	reason := condition.ReasonFetched
	if err != nil {
		reason = reconciler.Reason(err)
	}
	m.polls.WithLabelValues(reason).Inc()
}

func (m *metrics) verdict(reason string)  { m.verdicts.WithLabelValues(reason).Inc() }
func (m *metrics) planless(reason string) { m.noPlans.WithLabelValues(reason).Inc() }

// applying notes that a plan is on its way to the parts.
func (m *metrics) applying(fetched time.Time) { m.fetched.Store(&fetched) }

// reconciled is told of every finished reconcile.
func (a *Agent) reconciled(part string, took time.Duration, err error) {
	reason := condition.ReasonReconciled
	if err != nil {
		reason = reconciler.Reason(err)
	}
	a.metrics.reconciles.WithLabelValues(part, reason).Inc()
	a.metrics.seconds.WithLabelValues(part).Add(took.Seconds())
	if err == nil && a.loop.Settled() {
		if fetched := a.metrics.fetched.Swap(nil); fetched != nil {
			d := time.Since(*fetched)
			a.metrics.toApplied.Set(d.Seconds())
			a.log.Info("plan applied", "after", d.Round(time.Millisecond))
		}
	}
	a.board.poke()
}

// Describe is part of prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{infoDesc, conditionDesc, revisionDesc, planDesc} {
		out <- d
	}
}

// Collect is part of prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	report, reported := m.agent.board.latest()
	s := m.agent.store.State()
	gauge(infoDesc, 1, report.Node, report.Pool, s.Trust.Fleet, report.AgentVersion)
	gauge(revisionDesc, float64(s.Trust.Floor))
	if s.InForce != nil {
		gauge(planDesc, 1, s.InForce.Digest, s.InForce.Revision)
	}
	for _, c := range append(report.Conditions[:len(report.Conditions):len(report.Conditions)], reported) {
		if c.Type != "" {
			gauge(conditionDesc, 1, c.Type, string(c.Status), c.Reason)
		}
	}
}
