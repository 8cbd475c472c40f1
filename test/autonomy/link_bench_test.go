//go:build bench

package autonomy

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"
)

// linkRounds is how often each time is measured.
const linkRounds = 5

// BenchmarkLink measures how long the proxy of a real agent takes to see that the link is gone or back, and to serve after its start: as a
// client on the node finds out, which asks again and again.
func BenchmarkLink(b *testing.B) {
	l := newLoaded(b)
	l.serves()
	c := client(l.behind)
	defer c.CloseIdleConnections()
	b.Run("black-holed", func(b *testing.B) {
		var lost, back times
		for range linkRounds {
			idle(b, time.Second+rand.N(time.Second)) // at any point between two signs of life
			l.must(l.link.Cut())
			lost = append(lost, l.until(c, true))
			idle(b, time.Second+rand.N(time.Second))
			l.must(l.link.Restore())
			back = append(back, l.until(c, false))
		}
		b.ReportMetric(lost.at(50).Seconds(), "lost-p50-s")
		b.ReportMetric(lost.at(100).Seconds(), "lost-worst-s")
		b.ReportMetric(back.at(50).Seconds(), "back-p50-s")
		report(b, back.at(100).Seconds(), "back-worst-s")
	})
	for _, way := range []struct {
		name string
		cut  func() error
	}{{"refused", l.link.Refuse}, {"black-holed", l.link.Cut}} {
		b.Run("start/"+way.name, func(b *testing.B) {
			l.until(c, false)
			idle(b, time.Second) // what was read is on disk a moment later
			l.must(way.cut())
			var first times
			var cpu float64
			for range linkRounds {
				l.must(l.lab.Stop("agent"))
				began := time.Now()
				l.startAgent()
				l.until(c, true)
				first = append(first, time.Since(began))
				used, err := cpuTime(l.agent.PID())
				l.must(err)
				cpu += used
			}
			l.must(l.link.Restore())
			b.ReportMetric(millis(first.at(100)), "worst-ms")
			b.ReportMetric(cpu*1e3/linkRounds, "agent-cpu-ms")
			report(b, millis(first.at(50)), "first-answer-ms")
		})
	}
}

// until asks for the node until it is answered offline, or online, and gives how long that took. A connection that is refused is tried
// again at once, as by a program that waits for its API server.
func (l *loaded) until(c *http.Client, offline bool) time.Duration {
	l.Helper()
	began := time.Now()
	for {
		_, head, err := ask(c, l.address+"/api/v1/nodes/"+l.node.Name, protobufList)
		if err == nil && (head.Get("Holdfast-Cache-Age") != "") == offline {
			return time.Since(began)
		}
		if err == nil {
			err = fmt.Errorf("answered, but offline is not %v", offline)
		}
		if time.Since(began) > 30*time.Second {
			l.dump()
			l.Fatal(err)
		}
		idle(l, 2*time.Millisecond)
	}
}
