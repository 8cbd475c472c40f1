package discovery

import (
	"net/netip"
	"slices"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
)

const (
	// maxInstances bounds how many of a node's earlier starts are remembered.
	maxInstances = 16
	// A node's packets are checked checkBurst at once, and then one per checkEvery: a signature costs more than it takes to send a forged one.
	checkBurst = 16
	checkEvery = 100 * time.Millisecond
)

// speaker is what was heard of one key.
type speaker struct {
	instance uint64
	earlier  []uint64
	counts   map[int]uint32 // the newest packet of the instance, by link
	// checks are signatures that may still be checked, as of refilled.
	checks   int
	refilled time.Time
}

// hear takes a packet of anybody. The cheap checks come first.
func (d *Discovery) hear(p Packet) {
	a, err := parse(p.Data)
	if err != nil || a.instance == d.instance {
		return
	}
	key := a.key.Fingerprint()
	node := d.cfg.Member(key)
	link := slices.IndexFunc(d.links, func(l Link) bool { return l.Index == p.Link })
	if node == "" || node == d.cfg.Node || link < 0 {
		return
	}
	s := d.speaker(key)
	if !s.news(a, p.Link) || !s.mayCheck(time.Now()) || !signed(p.Data, a.key) {
		return
	}
	started := s.note(a, p.Link)
	if started || d.asksForUs(a.wanted) {
		d.soon(answerWithin)
	}
	addrs := onLink(d.links[link], a)
	if len(addrs) == 0 {
		return
	}
	delete(d.asked, key)
	if moved := d.cfg.Book.Heard(node, addrs); moved || started {
		d.cfg.Log.Debug("a node of the pool was heard", "name", node, "link", d.links[link].Name, "addresses", addrs)
		if d.cfg.Heard != nil {
			d.cfg.Heard(node, moved)
		}
	}
}

func (d *Discovery) asksForUs(wanted identity.Fingerprint) bool {
	return wanted == everyone || !wanted.IsZero() && (wanted == d.cfg.Key().Fingerprint() || d.cfg.Member(wanted) == d.cfg.Node)
}

// speaker gives what was heard of a member's key. Those of keys that are no member's any more are forgotten, so it is bounded by the pool.
func (d *Discovery) speaker(key identity.Fingerprint) *speaker {
	s := d.speakers[key]
	if s == nil {
		for other := range d.speakers {
			if d.cfg.Member(other) == "" {
				delete(d.speakers, other)
			}
		}
		s = &speaker{checks: checkBurst, counts: map[int]uint32{}}
		d.speakers[key] = s
	}
	return s
}

// news tells whether a packet can be anything but a repetition.
func (s *speaker) news(a announcement, link int) bool {
	if a.instance == s.instance {
		return a.count > s.counts[link]
	}
	return !slices.Contains(s.earlier, a.instance)
}

// mayCheck tells whether a signature of this speaker may be checked now.
func (s *speaker) mayCheck(now time.Time) bool {
	if n := int(now.Sub(s.refilled) / checkEvery); n > 0 || s.refilled.IsZero() {
		s.checks, s.refilled = min(checkBurst, s.checks+n), now
	}
	if s.checks == 0 {
		return false
	}
	s.checks--
	return true
}

// note remembers a packet whose signature holds, and tells whether the node started since it was heard last.
func (s *speaker) note(a announcement, link int) (started bool) {
	if a.instance != s.instance {
		s.earlier = append(s.earlier, s.instance)
		s.earlier = s.earlier[max(0, len(s.earlier)-maxInstances):]
		s.instance, started = a.instance, true
		clear(s.counts)
	}
	s.counts[link] = a.count
	return started
}

// onLink are the announced addresses that belong to the link the announcement was heard on: so not even a node of the pool can point the
// others at what is elsewhere.
func onLink(link Link, a announcement) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, addr := range a.addresses {
		if addr.IsLinkLocalUnicast() && addr.Is6() {
			addrs = append(addrs, netip.AddrPortFrom(addr.WithZone(link.Name), a.port))
			continue
		}
		near := slices.ContainsFunc(link.Prefixes, func(p netip.Prefix) bool { return p.Masked().Contains(addr) })
		ours := slices.ContainsFunc(link.Prefixes, func(p netip.Prefix) bool { return p.Addr() == addr })
		if near && !ours {
			addrs = append(addrs, netip.AddrPortFrom(addr, a.port))
		}
	}
	return addrs
}
