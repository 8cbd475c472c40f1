package lease

import (
	"testing"
	"time"
)

// TestRulesOfConfigurations: what a voter refuses that uses 2, once it was started beside 1, and knows 3.
func TestRulesOfConfigurations(t *testing.T) {
	voters := []Voter{{"a", 1}, {"b", 0}, {"c", 0}}
	one, two, three := Configuration{Generation: 1, Voters: voters}, Configuration{Generation: 2, Voters: voters}, Configuration{Generation: 3, Voters: voters}
	for _, test := range []struct {
		name   string
		record Record
		ids    []ID
		want   string
	}{
		{"only the base", Record{Base: &one, Started: []Configuration{two}}, []ID{one.ID()}, ReasonOutdated},
		{"what was started is left out", Record{Base: &one, Started: []Configuration{two}}, []ID{one.ID(), three.ID()}, ReasonOutdated},
		{"all", Record{Base: &one, Started: []Configuration{two}}, []ID{one.ID(), two.ID(), three.ID()}, ""},
		{"the base was retired elsewhere", Record{Base: &one, Started: []Configuration{two}}, []ID{two.ID(), three.ID()}, ""},
		{"retired", Record{Base: &two}, []ID{one.ID(), two.ID()}, ReasonRetired},
		{"older than the base, known no more", Record{Base: &two}, []ID{one.ID()}, ReasonBehind},
		{"not started yet", Record{Base: &one}, []ID{one.ID(), three.ID()}, ""},
	} {
		c, err := newCore(simParams("c"), &test.record, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetConfigurations(0, []Configuration{three}); err != nil {
			t.Fatal(err)
		}
		first, _ := tokens(3)
		got := c.answerAsk(time.Minute, "a", Message{Kind: KindAsk, Token: first, TTL: simTTL, Configurations: test.ids})
		if got.Reason != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got.Reason, test.want)
		}
	}
}

// TestRulesOfTheGone: nodes that a plan declares gone still count until no holder can go on by their grants.
func TestRulesOfTheGone(t *testing.T) {
	one := Configuration{Generation: 1, Voters: []Voter{{"a", 1}, {"b", 0}, {"c", 0}}}
	two := Configuration{Generation: 2, Voters: []Voter{{"a", 1}}, Gone: []string{"b", "c"}}
	c, err := newCore(simParams("a"), &Record{Base: &one}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetConfigurations(time.Hour, []Configuration{one, two}); err != nil {
		t.Fatal(err)
	}
	wait := c.p.GoneWait
	if got := c.inUse(time.Hour + wait - 1); len(got) != 1 {
		t.Errorf("before the wait is over %d configurations are used, want the old one", len(got))
	}
	if got := c.inUse(time.Hour + wait); len(got) != 2 {
		t.Errorf("after it %d configurations are used, want both", len(got))
	}
	for now, want := range map[time.Duration]bool{time.Hour + wait - 1: false, time.Hour + wait: true} {
		if got := c.most([]Configuration{one, two}, now, func(name string) bool { return name == "a" }); got != want {
			t.Errorf("at %v a alone is enough: %v", now, got)
		}
	}
}

// TestRulesOfRuns: what was granted to one run of a node does not count for the next.
func TestRulesOfRuns(t *testing.T) {
	one := Configuration{Generation: 1, Voters: []Voter{{"a", 1}, {"b", 0}, {"c", 0}}}
	probe := func(seed uint64) (*Core, Message) {
		p := simParams("a")
		p.Rand = newRand(seed)
		c, err := newCore(p, &Record{Base: &one}, 0)
		if err != nil {
			t.Fatal(err)
		}
		for now := time.Duration(0); now < simTTL; now = c.Next() {
			c.Tick(now)
			if _, out := c.Take(); len(out) > 0 {
				return c, out[0].Message
			}
		}
		t.Fatal("nothing is asked")
		return nil, Message{}
	}
	_, old := probe(1)
	c, _ := probe(2)
	c.Receive(simTTL/8, "b", Message{Kind: KindAnswer, Nonce: old.Nonce, Granted: true})
	if c.phase == asking || c.round.granted["b"] {
		t.Error("the answer to the run before was counted")
	}
}
