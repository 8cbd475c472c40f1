package edgeagent

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/kubelet"
	"github.com/holdfast-dev/holdfast/edgeagent/scope"
	"github.com/holdfast-dev/holdfast/edgeagent/store/cache"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
)

// stateEvery is how often the proxy is asked how it is. What was wrong once may be mended by itself a moment later, as a list that
// is read again: it counts when it is wrong twice.
const stateEvery = 30 * time.Second

// watchState reports a state until ctx ends.
func watchState(ctx context.Context, state func() condition.Condition, report func(condition.Condition)) {
	before := ""
	for next := stateEvery; wait(ctx, next); next = stateEvery {
		c := state()
		if c.Status == condition.True || c.Reason == before {
			report(c)
		}
		before = c.Reason
	}
}

// used tells whether the kubelet is behind the proxy, or somebody uses the proxy as the node. Else the part is idle, and what an outage
// would need is not there because nobody wants it.
func (p *proxyPart) used() bool {
	if _, err := kubelet.Read(p.folder); !errors.Is(err, kubelet.ErrNotAttached) {
		return true
	}
	return len(p.cache.Scopes(p.identity(), scope.Resource{})) > 0
}

// state sums the proxy up: what ends the node's connection first, then what its cache lacks.
func (p *proxyPart) state() condition.Condition {
	c := condition.Condition{Type: condition.ProxyReady, Status: condition.False}
	if !p.used() {
		c.Status, c.Reason, c.Message = condition.True, condition.ReasonNotAttached, "the kubelet is not behind the proxy, and does not come back without the API server: holdfast-agent proxy attach"
		return c
	}
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
