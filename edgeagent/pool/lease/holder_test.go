package lease

import (
	"testing"
	"time"
)

// TestHolderCounts: however late the grants come, a holder's time begins before it asked, at its first round and at its renewals.
func TestHolderCounts(t *testing.T) {
	conf := Configuration{Generation: 1, Voters: []Voter{{"a", 1}, {"b", 0}, {"c", 0}}}
	c, err := newCore(simParams("a"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetConfigurations(0, []Configuration{conf}); err != nil {
		t.Fatal(err)
	}
	// take gives the ask to b, once what must be on disk is.
	take := func(now time.Duration) (ask *Message) {
		for {
			record, out := c.Take()
			if record != nil {
				c.Saved(now)
				continue
			}
			for _, e := range out {
				if e.To == "b" && e.Message.Kind == KindAsk {
					ask = &e.Message
				}
			}
			return ask
		}
	}
	take(0)
	now := simTTL
	var probe *Message
	for probe == nil {
		now += time.Millisecond
		c.Tick(now)
		probe = take(now)
	}
	c.Receive(now, "b", Message{Kind: KindAnswer, Nonce: probe.Nonce, Granted: true})
	asked := now
	ask := take(now)
	if ask == nil || ask.Probe {
		t.Fatalf("no grants are asked for after the probe: %+v", ask)
	}
	now += simTTL / 5
	c.Receive(now, "b", Message{Kind: KindAnswer, Nonce: ask.Nonce, Granted: true})
	take(now)
	want := asked + time.Duration(float64(simTTL)*(1-simDrift))
	if held, ok := c.Held(now); !ok || held.Until != want {
		t.Fatalf("holds until %v, %v; want %v", held.Until, ok, want)
	}
	asked += simTTL / renewals
	c.Tick(asked)
	ask = take(asked)
	if ask == nil || !ask.Renew {
		t.Fatalf("not renewed: %+v", ask)
	}
	now = asked + simTTL/5
	c.Receive(now, "b", Message{Kind: KindAnswer, Nonce: ask.Nonce, Granted: true})
	if held, ok := c.Held(now); !ok || held.Until != asked+c.p.use() {
		t.Errorf("renewed until %v, %v; want %v", held.Until, ok, asked+c.p.use())
	}
	if _, ok := c.Held(asked + c.p.use()); ok {
		t.Error("holds after its time")
	}
}
