package lease

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func TestFile(t *testing.T) {
	f := File(filepath.Join(t.TempDir(), "gateway"))
	if r, err := f.Load(); r != nil || err != nil {
		t.Fatalf("got %v, %v of no file", r, err)
	}
	base := Configuration{Generation: 3, Voters: []Voter{{Name: "a", Priority: 1}, {Name: "b"}}}
	want := Record{Token: 7, Grants: []Grant{{Holder: "a", Token: 7, TTL: time.Second}}, Base: &base,
		Started: []Configuration{{Generation: 4, Voters: []Voter{{Name: "b", Priority: 1}}, Gone: []string{"a"}}}}
	if err := f.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err := f.Load()
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	whole, err := os.ReadFile(string(f))
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1
		for _, b := range [][]byte{damaged, whole[:i]} {
			if err := os.WriteFile(string(f), b, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := f.Load(); err == nil && !reflect.DeepEqual(*got, want) {
				t.Fatalf("byte %d damaged: got %+v", i, got)
			} else if err != nil && !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d damaged: %v", i, err)
			}
		}
	}
}

func TestConfigurationsAreChecked(t *testing.T) {
	for name, c := range map[string]Configuration{
		"no generation":     {Voters: []Voter{{Name: "a"}}},
		"generation":        {Generation: 1 << 31, Voters: []Voter{{Name: "a"}}},
		"no voters":         {Generation: 1},
		"no name":           {Generation: 1, Voters: []Voter{{}}},
		"twice":             {Generation: 1, Voters: []Voter{{Name: "a"}, {Name: "a"}}},
		"negative priority": {Generation: 1, Voters: []Voter{{Name: "a", Priority: -1}}},
		"gone and here":     {Generation: 1, Voters: []Voter{{Name: "a"}}, Gone: []string{"a"}},
		"too many":          {Generation: 1, Voters: make([]Voter, maxVoters+1)},
	} {
		if c.Validate() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// FuzzDecode: whatever a member sends is refused, or bounded and harmless to a voter.
func FuzzDecode(f *testing.F) {
	for _, m := range []Message{
		{Kind: KindAsk, Nonce: 1, Token: 1 << 32, TTL: time.Second, Configurations: []ID{{1, "x"}, {2, "y"}}, After: &Grant{Holder: "b", Token: 3}},
		{Kind: KindAnswer, Granted: true, Base: &ID{1, "x"}, Started: []ID{{2, "y"}}, Grants: []Grant{{Holder: "b", Token: 3}}, Wait: 1},
		{Kind: KindClaim, Token: 1}, {Kind: KindRelease, Token: 1 << 63}, {Kind: KindYield},
	} {
		f.Add(m.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(m.Encode())
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
		c := heldByA(t)
		c.Receive(time.Minute, "b", m)
		for {
			record, _ := c.Take()
			if record == nil {
				break
			}
			if err := record.check(); err != nil {
				t.Errorf("%+v made the record wrong: %v", m, err)
			}
			c.Saved(time.Minute)
		}
		if len(c.slots) == 0 || c.slots[0].Holder != "a" {
			t.Errorf("%+v made the voter forget a: %+v", m, c.slots)
		}
	})
}

// FuzzRecord: what is on disk is taken or refused, and nothing else.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"token":1,"base":{"generation":1,"voters":[{"name":"a","priority":1}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRecord(b); err == nil {
			if _, err := newCore(simParams("a"), r, 0); err != nil {
				t.Error(err)
			}
		}
	})
}

func simParams(name string) Params {
	return Params{Self: name, TTL: simTTL, Drift: simDrift, Stop: simStop, GoneWait: simTTL, Rand: newRand(1)}
}

// heldByA is the voter c of a pool whose holder is a.
func heldByA(t testing.TB) *Core {
	t.Helper()
	conf := Configuration{Generation: 1, Voters: []Voter{{"a", 2}, {"b", 1}, {"c", 0}}}
	c, err := newCore(simParams("c"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetConfigurations(0, []Configuration{conf}); err != nil {
		t.Fatal(err)
	}
	first, _ := tokens(1)
	c.Receive(time.Minute, "a", Message{Kind: KindAsk, Nonce: 1, Token: first + 1, TTL: simTTL, Configurations: []ID{conf.ID()}})
	if record, _ := c.Take(); record == nil {
		t.Fatal("the grant is not written")
	}
	c.Saved(time.Minute)
	if _, out := c.Take(); len(out) != 1 || !out[0].Message.Granted {
		t.Fatalf("not granted: %+v", out)
	}
	return c
}

// TestRefusalsAtFirst: a voter that has no record, or has lost it, grants nothing for a TTL.
func TestRefusalsAtFirst(t *testing.T) {
	c, err := newCore(simParams("c"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	conf := Configuration{Generation: 1, Voters: []Voter{{"a", 1}, {"c", 0}}}
	if err := c.SetConfigurations(0, []Configuration{conf}); err != nil {
		t.Fatal(err)
	}
	m := Message{Kind: KindAsk, Probe: true, TTL: simTTL, Configurations: []ID{conf.ID()}}
	if got := c.answerAsk(simTTL-1, "a", m); got.Reason != ReasonStarting {
		t.Errorf("granted, or not for the reason: %+v", got)
	}
	if got := c.answerAsk(simTTL, "a", m); !got.Granted {
		t.Errorf("not granted after a TTL: %+v", got)
	}
}

// TestYields: a candidate that waits takes the yield of that holder and that token, and no other.
func TestYields(t *testing.T) {
	for _, test := range []struct {
		from  string
		token uint64
		want  bool
	}{{"b", 7, true}, {"b", 6, false}, {"c", 7, false}} {
		c := heldByA(t)
		c.phase, c.held, c.round.after, c.round.asked = claiming, 8, &Grant{Holder: "b", Token: 7}, time.Minute
		c.round.configurations = []Configuration{*c.base}
		c.onYield(time.Minute, test.from, Message{Kind: KindYield, Token: test.token})
		if got := c.phase == holding; got != test.want {
			t.Errorf("yield of %d from %s: holds is %v", test.token, test.from, got)
		}
	}
}

// TestRefusals: what a voter says to asks that it must not grant.
func TestRefusals(t *testing.T) {
	c := heldByA(t)
	id := c.base.ID()
	first, last := tokens(1)
	ask := func(change func(*Message)) Message {
		m := Message{Kind: KindAsk, Nonce: 2, Token: first + 5, TTL: simTTL, Configurations: []ID{id}}
		change(&m)
		return m
	}
	for _, test := range []struct {
		name, from, want string
		m                Message
	}{
		{"another holder", "b", ReasonBusy, ask(func(m *Message) {})},
		{"after another token", "b", ReasonBusy, ask(func(m *Message) { m.After = &Grant{Holder: "a", Token: first} })},
		{"after another holder", "b", ReasonBusy, ask(func(m *Message) { m.After = &Grant{Holder: "c", Token: first + 1} })},
		{"after the holder", "b", "", ask(func(m *Message) { m.After, m.Probe = &Grant{Holder: "a", Token: first + 1}, true })},
		{"a renewal", "a", "", ask(func(m *Message) { m.Token = first + 1 })},
		{"an old token", "a", ReasonStale, ask(func(m *Message) { m.Token = first })},
		{"an old renewal", "a", ReasonStale, ask(func(m *Message) { m.Token, m.Renew = first, true })},
		{"a token of times to come", "a", ReasonStale, ask(func(m *Message) { m.Token = last + 1 })},
		{"no time", "a", ReasonTTL, ask(func(m *Message) { m.TTL = 0 })},
		{"too much time", "a", ReasonTTL, ask(func(m *Message) { m.TTL = MaxTTL + 1 })},
		{"may not hold", "c", ReasonStranger, ask(func(m *Message) {})},
		{"is no member", "x", ReasonStranger, ask(func(m *Message) {})},
		{"a configuration that no plan has", "a", ReasonBehind, ask(func(m *Message) { m.Configurations = []ID{id, {2, "x"}} })},
		{"another configuration of that generation", "a", ReasonConflict, ask(func(m *Message) { m.Configurations = []ID{{1, "x"}} })},
	} {
		if got := c.answerAsk(time.Minute, test.from, test.m); got.Reason != test.want || got.Granted != (test.want == "") {
			t.Errorf("%s: got %q, want %q", test.name, got.Reason, test.want)
		}
	}
}
