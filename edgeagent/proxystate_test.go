package edgeagent

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/identity"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/test/fleetrepo"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

// TestProxyReady: what would be missing in an outage is said while there is none.
func TestProxyReady(t *testing.T) {
	f := fleetrepo.Start(t, gitserver.Config{Plain: true}, fleetrepo.One("berlin", "n1", "rack", "7"))
	h := newKubeletHost(t, f)
	h.options.Proxy = nil
	_, err := Enroll(t.Context(), h.options)
	h.must(err)
	clock := time.Now()
	start := func() *Agent {
		t.Helper()
		a, err := Open(Options{
			Config: Config{State: h.options.State, Address: NoAddress, ProxyAddress: "127.0.0.1:0", PodAddress: NoAddress},
			API:    newFakeAPI(), Now: func() time.Time { return clock },
		})
		h.must(err)
		return a
	}
	expect := func(a *Agent, status condition.Status, reason, message string) {
		t.Helper()
		if c := a.proxy.state(); c.Type != condition.ProxyReady || c.Status != status || c.Reason != reason || !strings.Contains(c.Message, message) {
			t.Errorf("%+v", c)
		}
	}
	a := start()
	expect(a, condition.True, condition.ReasonNotAttached, "holdfast-agent proxy attach")
	h.must(a.Close())

	_, err = Attach(h.options.State, ProxyOptions{Kubelet: h.files})
	h.must(err)
	a = start()
	expect(a, condition.True, condition.ReasonReconciled, "")
	raw, err := os.ReadFile(h.files.Config)
	h.must(err)
	h.must(os.WriteFile(h.files.Config, []byte(strings.Replace(string(raw), "false", "true", 1)), 0o600))
	expect(a, condition.False, condition.ReasonKubeletChanged, "rotateCertificates: true again")
	h.must(os.WriteFile(h.files.Config, raw, 0o600))
	expect(a, condition.True, condition.ReasonReconciled, "")

	expiry, err := a.proxy.upkeep.Credential.Expiry()
	h.must(err)
	if got := valueOf(t, a.proxy.expiry()); got != float64(expiry.Unix()) {
		t.Errorf("the metric is %v", got)
	}
	clock = expiry.Add(time.Minute)
	expect(a, condition.False, condition.ReasonCredentialExpired, "enroll with a fresh --kubeconfig")
	h.must(a.Close())
}

// TestTroubleCountsWhenItLasts: what is wrong for a moment is not reported.
func TestTroubleCountsWhenItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		states := []condition.Condition{
			{Status: condition.True, Reason: "a"}, {Status: condition.False, Reason: "b"}, {Status: condition.True, Reason: "a"},
			{Status: condition.False, Reason: "b"}, {Status: condition.False, Reason: "c"}, {Status: condition.False, Reason: "c"}, {Status: condition.True, Reason: "a"},
		}
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		next := 0
		watchState(ctx, func() condition.Condition {
			if next++; next == len(states) {
				cancel()
			}
			return states[next-1]
		}, func(c condition.Condition) { got = append(got, c.Reason) })
		if strings.Join(got, "") != "aaca" {
			t.Errorf("%q", got)
		}
	})
}

// TestNoCredential: a node with a token has no date of expiry.
func TestNoCredential(t *testing.T) {
	p := &proxyPart{upkeep: &identity.Maintenance{}}
	if got := valueOf(t, p.expiry()); got != 0 {
		t.Error(got)
	}
	p.upkeep.Credential = identity.BorrowCredential(func() ([]byte, []byte, error) { return nil, nil, errors.New("gone") })
	if got := valueOf(t, p.expiry()); got != 0 {
		t.Error(got)
	}
}

func valueOf(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	out := make(chan prometheus.Metric, 1)
	c.Collect(out)
	var m dto.Metric
	if err := (<-out).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetGauge().GetValue()
}

// TestWatchBoot: an operator who has just mended what was missing does not wait five minutes to hear it.
func TestWatchBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		answers := []bool{false, false, true, false, true}
		var at []time.Duration
		watchBoot(ctx, func() bool {
			at = append(at, time.Since(began))
			if len(at) == len(answers) {
				cancel()
			}
			return answers[len(at)-1]
		})
		want := []time.Duration{selftestSoon, 2 * selftestSoon, 3 * selftestSoon, 3*selftestSoon + selftestEvery, 4*selftestSoon + selftestEvery}
		if !slices.Equal(at, want) {
			t.Errorf("it ran at %v, want %v", at, want)
		}
	})
}
