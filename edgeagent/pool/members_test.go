package pool_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/pool"
	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
)

func TestARemovedMember(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	ended := make(chan error, 2)
	for _, way := range [][2]*node{{a, b}, {b, a}} {
		go func() {
			_, err := way[0].get(context.Background(), way[1].name, "/wait")
			ended <- err
		}()
	}
	eventually(t, "both ask", func() bool { return a.seen.Load() == 1 && b.seen.Load() == 1 })
	set(t, a, a.member())
	for range 2 {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("a request ended as if it were done")
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a removed member's request goes on")
		}
	}
	if _, err := a.Client("b"); err == nil {
		t.Error("there is a way to a removed member")
	}
	if _, err := b.get(t.Context(), "a", "/who"); err == nil || a.seen.Load() != 1 {
		t.Errorf("a removed member was served: %v", err)
	}
	join(t, a, b)
	if got, err := b.get(t.Context(), "a", "/who"); err != nil || got != "b to a" {
		t.Errorf("after it was named again: %q, %v", got, err)
	}
}

func TestAnOldClient(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	client, err := a.Client("b")
	if err != nil {
		t.Fatal(err)
	}
	set(t, a, a.member())
	if _, err := client.Get("https://b/who"); !errors.Is(err, pool.ErrUnreachable) {
		t.Errorf("err = %v", err)
	}
}

func TestRotation(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	first := a.key.Key().Fingerprint()
	list := func(keys ...identity.Fingerprint) []pool.Member {
		m := a.member()
		m.Keys = keys
		return []pool.Member{m, b.member()}
	}
	check := func(step string) {
		t.Helper()
		for _, way := range [][2]*node{{a, b}, {b, a}} {
			if got, err := way[0].get(t.Context(), way[1].name, "/who"); err != nil {
				t.Fatalf("%s: %s to %s: %q, %v", step, way[0].name, way[1].name, got, err)
			}
		}
	}
	learn := func(keys ...identity.Fingerprint) {
		t.Helper()
		if err := a.key.SetListed(keys); err != nil {
			t.Fatal(err)
		}
		set(t, a, list(keys...)...)
	}
	learn(first)
	if err := a.key.Rotate(); err != nil {
		t.Fatal(err)
	}
	second := a.key.Newest()
	check("the next key is made")
	learn(first, second)
	check("only a knows that both are listed")
	set(t, b, list(first, second)...)
	check("all know that both are listed")
	learn(second)
	check("only a knows that the first is gone")
	set(t, b, list(second)...)
	check("the first is gone")
	if got := a.key.Key().Fingerprint(); got != second {
		t.Errorf("a speaks with %s", got)
	}
	eventually(t, "nothing is left of the first key", func() bool {
		s := b.Status()[0]
		return s.In <= 1 && s.Out <= 1
	})
	check("at the end")
}

func TestMembersThatCannotBe(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	key := b.member().Keys
	for what, members := range map[string][]pool.Member{
		"a name twice":        {b.member(), b.member()},
		"no name":             {{Keys: key}},
		"one key for two":     {b.member(), {Name: "c", Keys: key}},
		"no key":              {{Name: "c", Keys: []identity.Fingerprint{{}}}},
		"too many keys":       {{Name: "c", Keys: make([]identity.Fingerprint, 5)}},
		"an address, no port": {{Name: "c", Addresses: []string{"10.0.0.1"}}},
		"port 0":              {{Name: "c", Addresses: []string{"10.0.0.1:0"}}},
		"no host":             {{Name: "c", Addresses: []string{":7440"}}},
		"too many":            make([]pool.Member, 1001),
	} {
		if err := a.SetMembers(members); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if got, err := a.get(t.Context(), "b", "/who"); err != nil || got != "a to b" {
		t.Errorf("after members that were refused: %q, %v", got, err)
	}
	set(t, a, a.member(), pool.Member{Name: "b"})
	if _, err := a.get(t.Context(), "b", "/who"); !errors.Is(err, pool.ErrUnreachable) {
		t.Errorf("a member without a key: %v", err)
	}
}
