//go:build e2e

package autonomy

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

const (
	// manyPods is the length of the longest list, stormEvents what happens within stormTime.
	manyPods                = 1000
	stormEvents, stormTime  = 10_000, time.Minute
	maxAnonMB, stormWriters = 80, 8
)

// TestLoad has a kubelet's 245 watches, 200 of them for one Secret each, go through the proxy while 10,000 events a minute happen and a list of
// a thousand pods is read again and again. Nothing is lost, memory is bounded, and then all of it is there without the API server.
func TestLoad(t *testing.T) {
	l := newLoaded(t)
	l.populate(manyPods, loadSecrets, loadConfigMaps)
	l.serves()
	queries := l.kubeletQueries(loadSecrets, loadConfigMaps)
	watchers := l.play(queries)
	stop := make(chan struct{})
	var peak atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() { l.weigh(&peak, stop) })
	wg.Go(func() { l.listAll(stop) })
	changes := l.storm()
	close(stop)
	wg.Wait()
	if l.Failed() {
		l.FailNow()
	}
	l.complete(watchers, changes)
	if mb := peak.Load() >> 10; mb > maxAnonMB {
		t.Errorf("the agent took %d MB of memory of its own, want at most %d", mb, maxAnonMB)
	}
	t.Logf("anonymous memory at most %d MB", peak.Load()>>10)

	direct := client(l.straight)
	defer direct.CloseIdleConnections()
	want := map[query]map[string]scope.Item{}
	for _, q := range queries {
		objects, _, err := list(direct, q.url(l.link.Server, ""))
		l.must(err)
		want[q] = objects
	}
	l.must(l.link.Cut())
	l.offline()
	for _, w := range watchers {
		<-w.ended // and the client comes back
	}
	l.servedOffline(want)
}

// storm changes Secrets, one after the other, and gives how often each was changed.
func (l *loaded) storm() map[string]int {
	l.Helper()
	turns := make(chan int)
	began := time.Now()
	go func() {
		defer close(turns)
		tick := time.NewTicker(stormTime / stormEvents * 10)
		defer tick.Stop()
		for i := range stormEvents {
			if i%10 == 0 {
				<-tick.C
			}
			turns <- i
		}
	}()
	var wg sync.WaitGroup
	for range stormWriters {
		wg.Go(func() {
			for i := range turns {
				path := fmt.Sprintf("/api/v1/namespaces/%s/secrets/secret-%d", loadSpace, i%loadSecrets)
				if err := l.lab.Request(l.Context(), http.MethodPatch, path, object{"stringData": object{"turn": fmt.Sprint(i)}}, nil); err != nil {
					l.Error(err)
				}
			}
		})
	}
	wg.Wait()
	l.Logf("%d changes in %v", stormEvents, time.Since(began).Round(time.Millisecond))
	changes := map[string]int{}
	for i := range stormEvents {
		changes[fmt.Sprint("metadata.name=secret-", i%loadSecrets)]++
	}
	return changes
}

// complete waits until every watch has had every event, and compares what it has with the API server.
func (l *loaded) complete(watchers []*watcher, changes map[string]int) {
	l.Helper()
	direct := client(l.straight)
	defer direct.CloseIdleConnections()
	for _, w := range watchers {
		if !strings.HasSuffix(w.path, "/secrets") {
			continue
		}
		l.within(time.Minute, func() error {
			_, events, err := w.state()
			if err == nil && events != changes[w.fields] {
				err = fmt.Errorf("%s?%s has had %d events, want %d", w.path, w.fields, events, changes[w.fields])
			}
			return err
		})
		want, _, err := list(direct, w.url(l.link.Server, ""))
		l.must(err)
		got, _, err := w.state()
		l.must(err)
		l.must(same(got, want))
	}
}

// same tells whether two lists hold the same objects, byte by byte.
func same(got, want map[string]scope.Item) error {
	if len(got) != len(want) {
		return fmt.Errorf("there are %d objects, want %d", len(got), len(want))
	}
	for name, w := range want {
		if g := got[name]; g.Version != w.Version || !bytes.Equal(g.Raw, w.Raw) {
			return fmt.Errorf("%s is as of version %q, want %s; bytes equal: %v", name, g.Version, w.Version, bytes.Equal(g.Raw, w.Raw))
		}
	}
	return nil
}

// weigh notes the most memory that the agent ever has.
func (l *loaded) weigh(peak *atomic.Int64, stop chan struct{}) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := figures(l.agent.PID(), "status")
		if err != nil {
			l.Error(err)
			return
		}
		peak.Store(max(peak.Load(), int64(status["RssAnon"])))
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// listAll reads the long list through the proxy until it is told to stop. No list is short.
func (l *loaded) listAll(stop chan struct{}) {
	c := client(l.behind)
	defer c.CloseIdleConnections()
	for lists := 1; ; lists++ {
		objects, _, err := list(c, query{"/api/v1/pods", "spec.nodeName=" + l.node.Name}.url(l.address, ""))
		if err == nil && len(objects) != manyPods {
			err = fmt.Errorf("a list has %d pods, want %d", len(objects), manyPods)
		}
		if err != nil {
			l.Error(err)
			return
		}
		select {
		case <-stop:
			l.Logf("%d lists of %d pods", lists, manyPods)
			return
		case <-time.After(time.Second): // about as often as anything asks for so much
		}
	}
}

// servedOffline checks that every list and every watch is answered without the API server, from what it was last.
func (l *loaded) servedOffline(want map[query]map[string]scope.Item) {
	l.Helper()
	c := client(l.behind)
	defer c.CloseIdleConnections()
	for q, objects := range want {
		l.within(10*time.Second, func() error {
			w, err := follow(c, l.address, q, nil)
			if err != nil {
				return err
			}
			defer w.close()
			got, _, err := w.state()
			if err != nil {
				return err
			}
			if err := same(got, objects); err != nil {
				return fmt.Errorf("%s?%s: %w", q.path, q.fields, err)
			}
			return nil
		})
	}
}
