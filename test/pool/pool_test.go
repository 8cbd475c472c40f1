//go:build e2e

package pool_test

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestThreeNodes find each other with no address written down, by IPv4 and by nothing but link-local IPv6.
func TestThreeNodes(t *testing.T) {
	for name, addresses := range map[string][]string{
		"IPv4":            {"10.77.0.1/24", "10.77.0.2/24", "10.77.0.3/24"},
		"link-local IPv6": {"", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			a, b, c := s.add("a"), s.add("b"), s.add("c")
			join(a, b, c)
			for i, n := range []*node{a, b, c} {
				if addresses[i] == "" {
					n.plug()
				} else {
					n.plug(addresses[i])
				}
			}
			for _, from := range []*node{a, b, c} {
				for _, to := range []*node{a, b, c} {
					if from != to {
						t.Logf("%s to %s after %s", from.name, to.name, from.reaches(to, 30*time.Second).Round(time.Millisecond))
					}
				}
			}
		})
	}
}

// TestAddressesThatChange, while others hold connections to the old one.
func TestAddressesThatChange(t *testing.T) {
	s := newSite(t)
	a, b := s.add("a").plug("10.77.0.1/24"), s.add("b").plug("10.77.0.2/24")
	join(a, b)
	a.reaches(b, 30*time.Second)
	s.ip(b.cmd, "addr del 10.77.0.2/24 dev eth0")
	s.ip(b.cmd, "addr add 10.77.0.99/24 dev eth0")
	t.Logf("found again after %s", a.reaches(b, 30*time.Second).Round(time.Millisecond))
	if at := a.status(b); !slices.Contains(at.Addresses, "10.77.0.99:7440") {
		t.Errorf("addresses %v", at.Addresses)
	}
}

// TestAForeignNode has the name of a member, its former address, and every announcement it ever heard. It gets nothing.
func TestAForeignNode(t *testing.T) {
	s := newSite(t)
	a, b := s.add("a").only4().plug("10.77.0.1/24"), s.add("b").only4().plug("10.77.0.2/24")
	join(a, b)
	a.reaches(b, 30*time.Second)
	b.reaches(a, 30*time.Second)

	thief := s.add("b" + foreign).only4()
	lie := members(a, thief)
	lie[1].Name, lie[0].Addresses = "b", []string{"10.77.0.1:7440"}
	thief.tell(lie)
	s.ip(b.cmd, "addr del 10.77.0.2/24 dev eth0")
	thief.plug("10.77.0.2/24")
	if got := thief.order(order{Get: "a", Path: "/who"}); got.Error == "" {
		t.Errorf("the foreign node was served: %q", got.Body)
	}
	// b is gone, but for what the foreign node makes of it.
	for range 5 {
		if got := a.order(order{Get: "b", Path: "/who"}); got.Error == "" {
			t.Errorf("b answered: %q", got.Body)
		}
	}
	replayed := make(chan answer, 1)
	go func() { replayed <- thief.order(order{Replay: true, Within: 8 * time.Second}) }()
	s.ip(b.cmd, "addr add 10.77.0.3/24 dev eth0")
	t.Logf("found again after %s", a.reaches(b, 30*time.Second).Round(time.Millisecond))
	if got := <-replayed; got.Error != "" {
		t.Error(got.Error)
	}
	b.reaches(a, 30*time.Second)
	for _, address := range a.status(b).Addresses {
		if strings.HasPrefix(address, "10.77.0.66") {
			t.Errorf("a forged address was believed: %v", a.status(b).Addresses)
		}
	}
	if got := thief.order(order{}); got.Seen != 0 {
		t.Errorf("the foreign node was sent %d requests", got.Seen)
	}
	if !strings.Contains(a.log.String(), "proved no member's key") {
		t.Error("a says nothing of who came")
	}
}

// TestAPowerCut at a site whose switch forwards no multicast: the nodes find each other where they were.
func TestAPowerCut(t *testing.T) {
	s := newSite(t)
	a, b := s.add("a").plug("10.77.0.1/24"), s.add("b").plug("10.77.0.2/24")
	join(a, b)
	a.reaches(b, 30*time.Second)
	for _, n := range []*node{a, b} {
		n.powerCut()
	}
	for _, n := range []*node{a, b} {
		n.start()
		n.site.t.Cleanup(n.stop)
		n.plug("10.77.0." + map[string]string{"a": "1", "b": "2"}[n.name] + "/24")
		s.ip(s.bridge, "link set p-"+n.name+" type bridge_slave mcast_flood off")
	}
	join(a, b)
	t.Logf("found again after %s", a.reaches(b, 30*time.Second).Round(time.Millisecond))
}

// TestAPulledCable ends what is under way in bounded time, and what comes after works soon after it is plugged in.
func TestAPulledCable(t *testing.T) {
	s := newSite(t)
	a, b := s.add("a").plug("10.77.0.1/24"), s.add("b").plug("10.77.0.2/24")
	join(a, b)
	a.reaches(b, 30*time.Second)
	waiting := make(chan answer, 1)
	go func() { waiting <- a.order(order{Get: "b", Path: "/wait", Within: time.Minute}) }()
	for deadline := time.Now().Add(20 * time.Second); b.order(order{}).Seen < 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("b was not asked")
		}
	}
	b.cable("down")
	got := <-waiting
	t.Logf("noticed after %s: %s", got.Took.Round(time.Millisecond), got.Error)
	if got.Error == "" || got.Took > 30*time.Second {
		t.Errorf("a request to a node whose cable is pulled: %+v", got)
	}
	if got := a.order(order{Get: "b", Path: "/who"}); got.Error == "" || got.Took > 6*time.Second {
		t.Errorf("the next request: %+v", got)
	}
	b.cable("up")
	t.Logf("reached again after %s", a.reaches(b, 30*time.Second).Round(time.Millisecond))
}

const counters = `
table inet count {
	chain in {
		type filter hook input priority 0
		meta l4proto { tcp, udp } th dport 7440 counter
		tcp sport 7440 counter
	}
	chain out {
		type filter hook output priority 0
		meta l4proto { tcp, udp } th dport 7440 counter
		tcp sport 7440 counter
	}
}`

// TestQuiet: nodes that have nothing to say to each other say nothing.
func TestQuiet(t *testing.T) {
	s := newSite(t)
	a, b := s.add("a").plug("10.77.0.1/24"), s.add("b").plug("10.77.0.2/24")
	join(a, b)
	a.reaches(b, 30*time.Second)
	s.run(a.cmd, "nft", counters)
	for deadline := time.Now().Add(2 * time.Minute); a.status(b).Out > 0; time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			t.Fatal("a connection that nobody uses stays")
		}
	}
	before := s.run(a.cmd, "nft", "list", "ruleset")
	if !strings.Contains(before, "counter packets") || strings.Count(before, "packets 0 bytes 0") == 4 {
		t.Fatalf("nothing was counted, so this test would prove nothing: %s", before)
	}
	time.Sleep(30 * time.Second) // what must not happen has this long to happen
	if after := s.run(a.cmd, "nft", "list", "ruleset"); after != before {
		t.Errorf("a quiet pool is not quiet:\n%s\nthen\n%s", before, after)
	}
}
