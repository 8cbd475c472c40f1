//go:build bench

package autonomy

import (
	"crypto/tls"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/wire"
)

// connections is how many the benchmarks of throughput use: as many as YurtHub was measured with.
const connections = 4

// BenchmarkProxy measures what the proxy of a real agent adds to a real API server, and how fast it answers without one. The order matters:
// what is read online is served offline.
func BenchmarkProxy(b *testing.B) {
	l := newLoaded(b)
	l.populate(loadPods, 10, 10)
	l.serves()
	idle(b, span(b, settleEnv, 30*time.Second)) // after its start the agent reads the API server's documents, and looks whether it could do without
	node, pods := "/api/v1/nodes/"+l.node.Name, "/api/v1/pods?fieldSelector=spec.nodeName%3D"+l.node.Name
	b.Run("online/get", func(b *testing.B) { l.compare(b, node, 1000) })
	b.Run("online/list", func(b *testing.B) { l.compare(b, pods, 600) })
	b.Run("online/event", func(b *testing.B) { l.compareEvents(b, 500) })
	l.must(l.link.Cut())
	defer func() { l.must(l.link.Restore()) }()
	l.offline()
	for _, proto := range []string{"http1", "http2"} {
		b.Run("offline/get/"+proto, func(b *testing.B) { l.offlineGets(b, node, proto) })
	}
	b.Run("offline/list", func(b *testing.B) { l.offlineGets(b, pods, "http2") })
}

// report reports a figure that is not a time per operation, which would say nothing.
func report(b *testing.B, value float64, unit string) {
	b.ReportMetric(value, unit)
	b.ReportMetric(0, "ns/op")
}

func millis(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// times are how long something took, again and again.
type times []time.Duration

func (t times) at(percent int) time.Duration {
	slices.Sort(t)
	return t[min(len(t)-1, len(t)*percent/100)]
}

// compare asks the API server directly and through the proxy, in turns, so that whatever else the machine does hits both.
func (l *loaded) compare(b *testing.B, path string, n int) {
	ways := []struct {
		name, url string
		conf      *tls.Config
		took      times
		client    *http.Client
		crowd     []*http.Client
	}{{name: "direct", url: l.link.Server, conf: l.straight}, {name: "proxy", url: l.address, conf: l.behind}}
	for i := range ways {
		ways[i].client = client(ways[i].conf)
		defer ways[i].client.CloseIdleConnections()
		_, _, err := ask(ways[i].client, ways[i].url+path, protobufList) // connects
		l.must(err)
		ways[i].crowd = l.connect(ways[i].url+path, ways[i].conf, "http2")
	}
	var requests, seconds [2]float64
	var allocated, cpu float64
	for range n {
		for i := range ways {
			began := time.Now()
			_, _, err := ask(ways[i].client, ways[i].url+path, protobufList)
			ways[i].took = append(ways[i].took, time.Since(began))
			l.must(err)
		}
	}
	const turns = 6
	for range turns {
		for i := range ways {
			before, cpuBefore := l.allocations(), l.cpuSeconds()
			count, took := l.hammer(ways[i].crowd, ways[i].url+path, 500*time.Millisecond)
			requests[i] += float64(count)
			seconds[i] += took.Seconds()
			if i == 1 {
				cpu += l.cpuSeconds() - cpuBefore
				allocated += l.allocations() - before
			}
		}
	}
	for i := range ways {
		b.ReportMetric(millis(ways[i].took.at(50)), ways[i].name+"-p50-ms")
		b.ReportMetric(millis(ways[i].took.at(99)), ways[i].name+"-p99-ms")
		b.ReportMetric(requests[i]/seconds[i], ways[i].name+"-req/s")
	}
	b.ReportMetric(millis(ways[1].took.at(50)-ways[0].took.at(50)), "added-p50-ms")
	b.ReportMetric(millis(ways[1].took.at(99)-ways[0].took.at(99)), "added-p99-ms")
	b.ReportMetric(allocated/requests[1], "agent-allocs/op")
	b.ReportMetric(cpu*1e6/requests[1], "agent-cpu-µs/op")
	report(b, requests[1]/seconds[1]/(requests[0]/seconds[0]), "throughput-ratio")
}

// connect opens a few connections, each with a client of its own, and asks once over each.
func (l *loaded) connect(address string, conf *tls.Config, proto string) []*http.Client {
	l.Helper()
	clients := make([]*http.Client, connections)
	for i := range clients {
		clients[i] = client(conf)
		clients[i].Transport.(*http.Transport).ForceAttemptHTTP2 = proto == "http2"
		l.Cleanup(clients[i].CloseIdleConnections)
		_, _, err := ask(clients[i], address, protobufList)
		l.must(err)
	}
	return clients
}

// hammer asks as fast as it can, one request after the other with each client, and gives how often it was answered.
func (l *loaded) hammer(clients []*http.Client, address string, length time.Duration) (count int, took time.Duration) {
	l.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	began := time.Now()
	for _, c := range clients {
		wg.Go(func() {
			n := 0
			var err error
			for err == nil && time.Since(began) < length {
				if _, _, err = ask(c, address, protobufList); err == nil {
					n++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			count += n
			if err != nil {
				failed = err
			}
		})
	}
	wg.Wait()
	l.must(failed)
	return count, time.Since(began)
}

// offlineGets asks the proxy of a node that is cut off.
func (l *loaded) offlineGets(b *testing.B, path, proto string) {
	clients := l.connect(l.address+path, l.behind, proto)
	before := l.allocations()
	cpu := l.cpuSeconds()
	count, took := l.hammer(clients, l.address+path, 3*time.Second)
	b.ReportMetric((l.cpuSeconds()-cpu)*1e6/float64(count), "agent-cpu-µs/op")
	b.ReportMetric((l.allocations()-before)/float64(count), "agent-allocs/op")
	report(b, float64(count)/took.Seconds(), "req/s")
}

// compareEvents follows one ConfigMap directly and through the proxy, and compares when each event comes.
func (l *loaded) compareEvents(b *testing.B, n int) {
	type arrival struct {
		version string
		way     int
		at      time.Time
	}
	arrived := make(chan arrival, 64)
	q := query{"/api/v1/namespaces/" + loadSpace + "/configmaps", "metadata.name=config-0"}
	for i, way := range []struct {
		url  string
		conf *tls.Config
	}{{l.link.Server, l.straight}, {l.address, l.behind}} {
		c := client(way.conf)
		defer c.CloseIdleConnections()
		w, err := follow(c, way.url, q, func(f wire.Frame) {
			if f.Type == wire.Modified {
				arrived <- arrival{f.Item.Version, i, time.Now()}
			}
		})
		l.must(err)
		defer w.close()
	}
	var added, direct times
	before, cpu := l.allocations(), l.cpuSeconds()
	for i := range n {
		began := time.Now()
		var changed struct {
			Metadata struct{ ResourceVersion string }
		}
		l.must(l.lab.Request(l.Context(), http.MethodPatch, q.path+"/config-0", object{"data": object{"turn": strconv.Itoa(i)}}, &changed))
		var at [2]time.Time
		for range at {
			select {
			case a := <-arrived:
				if at[a.way] = a.at; a.version != changed.Metadata.ResourceVersion {
					b.Fatalf("version %s came, want %s", a.version, changed.Metadata.ResourceVersion)
				}
			case <-time.After(10 * time.Second):
				b.Fatal("an event did not come")
			}
		}
		added, direct = append(added, at[1].Sub(at[0])), append(direct, at[0].Sub(began))
	}
	b.ReportMetric((l.cpuSeconds()-cpu)*1e6/float64(n), "agent-cpu-µs/op")
	b.ReportMetric((l.allocations()-before)/float64(n), "agent-allocs/op")
	b.ReportMetric(millis(direct.at(50)), "direct-p50-ms") // the change included
	b.ReportMetric(millis(added.at(99)), "added-p99-ms")
	report(b, millis(added.at(50)), "added-p50-ms")
}

// allocations reads how many objects the agent has allocated so far.
func (l *loaded) allocations() float64 {
	l.Helper()
	c := client(l.health)
	defer c.CloseIdleConnections()
	raw, _, err := ask(c, l.metrics, "text/plain")
	l.must(err)
	for line := range strings.Lines(string(raw)) {
		if text, ok := strings.CutPrefix(line, "holdfast_agent_allocations_total "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			l.must(err)
			return value
		}
	}
	l.Fatal("the agent does not say how much it allocates")
	return 0
}

// cpuSeconds is the processor time that the agent has used so far.
func (l *loaded) cpuSeconds() float64 {
	l.Helper()
	seconds, err := cpuTime(l.agent.PID())
	l.must(err)
	return seconds
}
