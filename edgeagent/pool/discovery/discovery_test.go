package discovery

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestNodesFindEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, "a", "b", "c")
		pass(time.Second)
		s.finds("a", "b", "10.0.0.2:7440")
		s.finds("b", "c", "10.0.0.3:7440")
		s.finds("c", "a", "10.0.0.1:7440")
		s.finds("a", "a")
	})
}

// TestAQuietPool sends a packet in some minutes.
func TestAQuietPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, "a", "b", "c")
		pass(2 * time.Minute)
		before := s.peers["a"].wire.count()
		if before > 8 {
			t.Errorf("%d packets in the first two minutes", before)
		}
		pass(2 * time.Hour)
		if sent := s.peers["a"].wire.count() - before; sent < 9 || sent > 16 {
			t.Errorf("%d packets in two hours", sent)
		}
	})
}

// TestANodeThatStartsLater hears of all others at once, though they had nothing to say.
func TestANodeThatStartsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, "a", "b", "c")
		pass(time.Minute)
		c := s.peers["c"]
		c.stop()
		synctest.Wait()
		a, b := s.peers["a"].wire.count(), s.peers["b"].wire.count()
		s.start("c", c.key, c.wire)
		pass(3 * time.Second)
		s.finds("c", "a", "10.0.0.1:7440")
		s.finds("c", "b", "10.0.0.2:7440")
		if a, b := s.peers["a"].wire.count()-a, s.peers["b"].wire.count()-b; a != 1 || b != 1 {
			t.Errorf("it took %d and %d answers, want one each", a, b)
		}
		if s.peers["a"].heard["c"] == 0 {
			t.Error("nobody was told that c is there")
		}
	})
}

func TestAddressesThatChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, "a", "b")
		pass(time.Minute)
		s.peers["a"].wire.setAddress("10.0.0.77")
		pass(3 * time.Second)
		s.finds("b", "a", "10.0.0.77:7440", "10.0.0.1:7440")
		before := s.peers["a"].wire.count()
		for range 100 { // links come and go that are not the site's own
			s.peers["a"].wire.setAddress("10.0.0.77")
			pass(10 * time.Second)
		}
		if sent := s.peers["a"].wire.count() - before; sent > 6 {
			t.Errorf("%d packets although nothing changed", sent)
		}
	})
}

// TestAFlappingAddress does not storm.
func TestAFlappingAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, "a", "b")
		pass(time.Minute)
		before := s.peers["a"].wire.count()
		for i := range 600 {
			s.peers["a"].wire.setAddress(fmt.Sprintf("10.0.0.%d", 100+i%2))
			pass(100 * time.Millisecond)
		}
		if sent := s.peers["a"].wire.count() - before; sent > 31 {
			t.Errorf("%d packets in a minute", sent)
		}
	})
}

// TestALinkThatComesLate, as when the cable is plugged in after the start, or addresses cannot be read for a while.
func TestALinkThatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, "a", "b")
		pass(2 * time.Minute)
		s.peers["b"].wire.setAddress("")
		pass(time.Hour)
		s.peers["a"].wire.setAddress("10.0.0.11") // which b does not hear
		pass(time.Hour)
		s.finds("b", "a", "10.0.0.1:7440")
		s.peers["b"].wire.setAddress("10.0.0.2")
		pass(3 * time.Second)
		s.finds("a", "b", "10.0.0.2:7440")
		s.finds("b", "a", "10.0.0.11:7440", "10.0.0.1:7440")
	})
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, "a")
		key := newKey(t, "b")
		s.names[key.Fingerprint()] = "b"
		wire := s.lan.wire(9, "10.0.0.9")
		wire.fail(errors.New("out of memory"))
		s.start("b", key, wire)
		pass(time.Second)
		wire.fail(nil)
		pass(2 * time.Minute)
		if wire.count() == 0 {
			t.Error("the addresses were not read again")
		}
	})
}

// TestAQuestion brings an answer of the one who is asked for, and is asked ever more rarely.
func TestAQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, "a", "b", "c")
		a, b := s.peers["a"], s.peers["b"]
		s.lan.setLoss(func(_, to *fakeWire) bool { return to == a.wire }) // a hears nothing
		pass(2 * time.Minute)
		s.finds("a", "b")
		s.lan.setLoss(nil)
		before, others := b.wire.count(), s.peers["c"].wire.count()
		a.Ask(b.key.Fingerprint())
		pass(3 * time.Second)
		s.finds("a", "b", "10.0.0.2:7440")
		if b.wire.count()-before != 1 || s.peers["c"].wire.count() != others {
			t.Errorf("%d answers, and %d of a node that was not asked", b.wire.count()-before, s.peers["c"].wire.count()-others)
		}

		b.stop()
		synctest.Wait()
		asked := a.wire.count()
		for range 3600 {
			a.Ask(b.key.Fingerprint())
			pass(time.Second)
		}
		if n := a.wire.count() - asked; n < 12 || n > 30 {
			t.Errorf("asked %d times in an hour for a node that is gone", n)
		}
		stranger := newKey(t, "c")
		asked = a.wire.count()
		for range 100 {
			a.Ask(stranger.Fingerprint())
			pass(100 * time.Millisecond)
		}
		if n := a.wire.count() - asked; n > 1 {
			t.Errorf("asked %d times for a stranger", n)
		}
	})
}

// TestStrangersAndLies: nothing that a stranger sends changes where a member is looked for.
func TestStrangersAndLies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, "a", "b")
		a, b := s.peers["a"], s.peers["b"]
		pass(time.Minute)
		s.finds("a", "b", "10.0.0.2:7440")
		heard, sent := a.heard["b"], a.wire.count()
		captured := slices.Clone(s.lan.sent)
		lie := func(what string, data []byte) {
			t.Helper()
			a.wire.packets <- Packet{Link: a.wire.index, Data: data}
			synctest.Wait()
			s.finds("a", "b", "10.0.0.2:7440")
			if a.heard["b"] != heard {
				t.Errorf("%s was believed", what)
			}
		}
		stranger := newKey(t, "b")
		elsewhere := announcement{instance: 99, count: 1, port: 7440, addresses: addrs("10.0.0.66")}
		lie("a stranger's announcement", elsewhere.sign(stranger))
		forged := elsewhere.sign(stranger)
		public := b.key.Public()
		copy(forged[20:], public[:])
		lie("a forged announcement", forged)
		for _, packet := range captured {
			lie("a repeated packet", packet)
		}
		for i := range 1000 { // a flood of forged ones, each another
			forged[19] = byte(i)
			lie("a flood", forged)
		}
		for i := range 5 { // a stranger that starts again and again, and asks everyone
			lie("a stranger's start", announcement{instance: uint64(200 + i), count: 1, port: 7440, addresses: addrs("10.0.0.66"), wanted: everyone}.sign(stranger))
			pass(3 * time.Second)
		}
		if n := a.wire.count() - sent; n > 1 {
			t.Errorf("strangers had %d packets sent", n)
		}
		// The member itself can only point at what is on the link it is heard on, and not at the one who hears it.
		far := announcement{instance: 99, count: 1, port: 7440, addresses: addrs("10.9.9.9", "8.8.8.8", "10.0.0.1", "fd00::1")}
		lie("a far address", far.sign(b.key))
		wrong := Packet{Link: 77, Data: announcement{instance: 99, count: 9, port: 7440, addresses: addrs("10.0.0.66")}.sign(b.key)}
		a.wire.packets <- wrong
		s.finds("a", "b", "10.0.0.2:7440")
	})
}

// TestRepetitions: what a member said before it moved, and before it started again, moves it nowhere.
func TestRepetitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, "a", "b")
		a, b := s.peers["a"], s.peers["b"]
		pass(time.Minute)
		captured := slices.Clone(s.lan.sent)
		b.stop()
		synctest.Wait()
		s.start("b", b.key, b.wire)
		pass(time.Minute)
		captured = append(captured, s.lan.sent[len(captured):]...)
		b.wire.setAddress("10.0.0.22")
		pass(time.Minute)
		s.finds("a", "b", "10.0.0.22:7440", "10.0.0.2:7440")
		heard := a.heard["b"]
		for _, packet := range captured {
			a.wire.packets <- Packet{Link: a.wire.index, Data: packet}
			s.finds("a", "b", "10.0.0.22:7440", "10.0.0.2:7440")
		}
		if a.heard["b"] != heard {
			t.Error("a repetition passed for news")
		}
	})
}

// TestOneThatWasRemoved is no longer heard.
func TestOneThatWasRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, "a", "b")
		pass(time.Minute)
		s.mu.Lock()
		delete(s.names, s.peers["b"].key.Fingerprint())
		s.mu.Unlock()
		s.peers["b"].wire.setAddress("10.0.0.55")
		pass(time.Minute)
		s.finds("a", "b", "10.0.0.2:7440")
	})
}

// TestChecksAreBounded: the signatures of one key are checked at a bounded pace, however many packets come in its name.
func TestChecksAreBounded(t *testing.T) {
	s := &speaker{checks: checkBurst, counts: map[int]uint32{}}
	now := time.Unix(0, 0)
	checked := 0
	for range 10_000 { // ten seconds
		now = now.Add(time.Millisecond)
		if s.mayCheck(now) {
			checked++
		}
	}
	if most := checkBurst + int(10*time.Second/checkEvery); checked > most || checked < most-2 {
		t.Errorf("%d signatures were checked, want about %d", checked, most)
	}
}

// TestManyStarts: a node that starts again and again is remembered with bounds.
func TestManyStarts(t *testing.T) {
	s := &speaker{counts: map[int]uint32{}}
	for i := range uint64(1000) {
		a := announcement{instance: i + 1, count: 1}
		if !s.news(a, 1) || !s.note(a, 1) || s.news(a, 1) {
			t.Fatalf("start %d", i)
		}
	}
	if len(s.earlier) > maxInstances || s.news(announcement{instance: 999, count: 5}, 1) {
		t.Error("an earlier start counts, or too many are remembered")
	}
}
