//go:build bench

package autonomy

import (
	"os"
	"testing"
	"time"
)

// settleEnv shortens the time in which the agent under load does nothing before its memory is read.
const settleEnv = "HOLDFAST_BENCH_SETTLE"

// span reads a length of time from the environment.
func span(tb testing.TB, name string, otherwise time.Duration) time.Duration {
	tb.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// BenchmarkFullNode is what the whole agent takes on a node with 110 pods and 200 Secrets, each with a watch of its own: through the proxy,
// while the link is up.
func BenchmarkFullNode(b *testing.B) {
	l := newLoaded(b)
	l.populate(loadPods, loadSecrets, loadConfigMaps)
	l.serves()
	watchers := l.play(l.kubeletQueries(loadSecrets, loadConfigMaps))
	idle(b, span(b, settleEnv, 2*time.Minute))
	status, err := figures(l.agent.PID(), "status")
	l.must(err)
	for _, w := range watchers {
		_, _, err := w.state()
		l.must(err)
	}
	b.ReportMetric(status["VmRSS"]/1024, "resident-MB")
	b.ReportMetric(status["RssAnon"]/1024, "anon-MB")
	b.ReportMetric(status["VmHWM"]/1024, "peak-MB")
	b.ReportMetric(float64(len(watchers)), "watches")
	b.ReportMetric(0, "ns/op") // a time would say nothing
}

// idle waits until that much time is over: nothing is to happen meanwhile.
func idle(tb testing.TB, length time.Duration) {
	tb.Helper()
	select {
	case <-tb.Context().Done():
		tb.Fatal(tb.Context().Err())
	case <-time.After(length):
	}
}
