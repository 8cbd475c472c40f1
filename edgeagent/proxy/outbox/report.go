package outbox

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// Report is what came of replaying.
type Report struct {
	// Replayed and Dropped count since the start. Pending is what waits now, Events how many of that are events.
	Replayed, Dropped, Pending, Events int
	// Lost says what upstream refused for good, newest first, at most a few.
	Lost []Lost
}

// Lost is an entry that upstream refused for good.
type Lost struct {
	What string    `json:"what"`
	Why  string    `json:"why"`
	When time.Time `json:"when"`
}

const (
	// keptLosses is how many losses a Report tells of, and lossesShown for how long a condition does.
	keptLosses  = 20
	lossesShown = 24 * time.Hour
)

// Report tells what came of replaying so far.
func (o *Outbox) Report() Report {
	o.mu.Lock()
	r := o.report
	r.Lost = slices.Clone(r.Lost)
	r.Pending = len(o.statuses)
	o.mu.Unlock()
	for _, err := range o.cfg.Store.Pending(EventsBucket) {
		if err != nil {
			break
		}
		r.Events++
	}
	r.Pending += r.Events
	return r
}

// Condition sums it up as the condition WritesReplayed. What waits is no fault; what was lost in the last day is.
func (o *Outbox) Condition() condition.Condition {
	r := o.Report()
	c := condition.Condition{Type: condition.WritesReplayed, Status: condition.True, Reason: condition.ReasonReplayed, Message: "nothing waits to be sent upstream"}
	if r.Pending > 0 {
		c.Reason = condition.ReasonWritesWaiting
		c.Message = fmt.Sprintf("%d statuses and %d events were written while offline and wait for the link", r.Pending-r.Events, r.Events)
	}
	lost := slices.DeleteFunc(r.Lost, func(l Lost) bool { return o.cfg.Now().Sub(l.When) > lossesShown })
	if len(lost) == 0 {
		return c
	}
	c.Status, c.Reason = condition.False, condition.ReasonWritesLost
	const shown = 3
	var texts []string
	for _, l := range lost[:min(shown, len(lost))] {
		texts = append(texts, l.What+": "+l.Why)
	}
	c.Message = "upstream did not take what was written while offline: " + strings.Join(texts, "; ")
	if more := len(lost) - shown; more > 0 {
		c.Message += fmt.Sprintf("; and %d more", more)
	}
	return c
}

// count notes what came of one entry.
func (o *Outbox) count(a answer, what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if a.code < 300 {
		o.report.Replayed++
		return
	}
	o.report.Dropped++
	lost := append([]Lost{{What: what, Why: strconv.Itoa(a.code) + ": " + a.why, When: o.cfg.Now()}}, o.report.Lost...)
	o.report.Lost = lost[:min(len(lost), keptLosses)]
	o.cfg.Log.Warn("what was written offline is dropped: upstream does not take it", "what", what, "code", a.code, "why", a.why)
}

// collector gives the outbox's metrics.
type collector struct {
	o                          *Outbox
	waiting, replayed, dropped *prometheus.Desc
}

// Collector gives the metrics: what waits, what was replayed and what was dropped.
func (o *Outbox) Collector() prometheus.Collector {
	return collector{
		o:        o,
		waiting:  prometheus.NewDesc("holdfast_proxy_outbox_waiting", "Writes made offline that wait to be replayed, by kind.", []string{"kind"}, nil),
		replayed: prometheus.NewDesc("holdfast_proxy_outbox_replayed_total", "Writes made offline that upstream took.", nil, nil),
		dropped:  prometheus.NewDesc("holdfast_proxy_outbox_dropped_total", "Writes made offline that upstream refused for good.", nil, nil),
	}
}

// Describe is part of prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	out <- c.waiting
	out <- c.replayed
	out <- c.dropped
}

// Collect is part of prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	r := c.o.Report()
	out <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(r.Pending-r.Events), "status")
	out <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(r.Events), "event")
	out <- prometheus.MustNewConstMetric(c.replayed, prometheus.CounterValue, float64(r.Replayed))
	out <- prometheus.MustNewConstMetric(c.dropped, prometheus.CounterValue, float64(r.Dropped))
}
