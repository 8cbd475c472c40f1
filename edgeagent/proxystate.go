package edgeagent

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/edgeagent/store/cache"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// stateEvery is how often the proxy is asked how it is. What was wrong once may be mended by itself a moment later, as a list that
// is read again: it counts when it is wrong twice.
const stateEvery = 30 * time.Second

// watchState keeps the condition ProxyReady true until ctx ends.
func (p *proxyPart) watchState(ctx context.Context, report func(condition.Condition)) {
	before := ""
	for next := stateEvery; wait(ctx, next); next = stateEvery {
		c := p.state()
		if c.Status == condition.True || c.Reason == before {
			report(c)
		}
		before = c.Reason
	}
}

// state sums the proxy up: what ends the node's connection first, then what its cache lacks.
func (p *proxyPart) state() condition.Condition {
	c := condition.Condition{Type: condition.ProxyReady, Status: condition.False}
	var problem *identity.Problem
	if errors.As(p.upkeep.Problem(), &problem) {
		c.Reason, c.Message = problem.Reason, problem.Error()
		return c
	}
	if changed := checkAttached(p.folder, p.upkeep.Authority); len(changed) > 0 {
		c.Reason, c.Message = condition.ReasonKubeletChanged, strings.Join(changed, "; ")+": stop the agent, run holdfast-agent proxy attach, start the agent and restart the kubelet"
		return c
	}
	switch reason, message := p.cache.Condition(); reason {
	case cache.ReasonCached:
		c.Status, c.Reason = condition.True, condition.ReasonReconciled // without the message, which counts: each would be a write
	case cache.ReasonCacheRebuilt:
		c.Status, c.Reason, c.Message = condition.True, reason, message
	default:
		c.Reason, c.Message = reason, message
	}
	return c
}

// expiry says when upstream stops taking the node's credential.
func (p *proxyPart) expiry() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "holdfast_proxy_credential_expiry_timestamp_seconds",
		Help: "When the node's certificate for the API server expires; 0 if it has a token, or its certificate cannot be read.",
	}, func() float64 {
		if p.upkeep.Credential == nil {
			return 0
		}
		at, err := p.upkeep.Credential.Expiry()
		if err != nil {
			return 0
		}
		return float64(at.Unix())
	})
}
