// Package discovery finds the pool's nodes on the LAN when nobody wrote their addresses down, or they changed. Nodes announce themselves by
// link-local multicast when they start, when their addresses change, and when one asks for another; a quiet pool is quiet. An
// announcement is signed, so that strangers cannot fill the book with lies, but it is a hint all the same: only a TLS handshake proves who
// answers at an address.
package discovery

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
)

const (
	// minGap is the least time between two rounds of announcements, whatever is asked.
	minGap = 2 * time.Second
	// answerWithin spreads the answers of a pool whose nodes all heard the same.
	answerWithin = 500 * time.Millisecond
	// settle is how long addresses are left to settle after a change before they are read again.
	settle = time.Second
	// refresh is how often a node announces itself while nothing happens, give or take a fifth.
	refresh = 10 * time.Minute
	// askFirst and askMost bound how often a node that does not answer is asked for.
	askFirst, askMost = time.Second, 5 * time.Minute
)

// burst is when a node announces itself after a start or a change: packets get lost, and a bridge's port forwards nothing for 30 s. The first
// two ask everyone to answer, since the node may have missed what they had to say.
var burst = []turn{{300 * time.Millisecond, true}, {4 * time.Second, true}, {40 * time.Second, false}}

type turn struct {
	after time.Duration
	asks  bool
}

// everyone stands for all nodes where one is asked for.
var everyone = identity.Fingerprint(bytes.Repeat([]byte{0xff}, len(identity.Fingerprint{})))

// Link is a network that the node is on. Prefixes are its addresses there, with the length of the network's prefix.
type Link struct {
	Index    int
	Name     string
	Prefixes []netip.Prefix
}

// Packet is what was heard on a link.
type Packet struct {
	Link int // its index
	Data []byte
}

// Wire sends and hears packets.
type Wire interface {
	// Links are the links to use now.
	Links() ([]Link, error)
	// Send sends a packet to all nodes on a link.
	Send(link Link, data []byte) error
	// Packets are those heard, also from oneself. What is not read in time is lost.
	Packets() <-chan Packet
	// Changes tells that the links may have changed.
	Changes() <-chan struct{}
}

// Config is what a Discovery is made of.
type Config struct {
	// Node is this node's name, Key its key now, Port the TCP port of its pool listener.
	Node string
	Key  func() *identity.Key
	Port uint16
	// Member names the node of the pool that has a key, "" if none has.
	Member func(identity.Fingerprint) string
	// Book gets what is heard. Heard, which may be nil, is told of a node that started, and of one at an address that is new.
	Book  *Book
	Heard func(node string, moved bool)
	Wire  Wire
	Log   *slog.Logger
}

// Discovery announces this node and listens to the others.
type Discovery struct {
	cfg      Config
	instance uint64
	asks     chan identity.Fingerprint

	// What follows belongs to Run.
	links    []Link
	count    uint32
	due      []round
	sent     time.Time // when it was announced last
	reread   <-chan time.Time
	asked    map[identity.Fingerprint]ask
	speakers map[identity.Fingerprint]*speaker
}

// round is when to announce, and whom to ask for then.
type round struct {
	at     time.Time
	wanted identity.Fingerprint
}

// ask is how long a node is not asked for again.
type ask struct {
	until time.Time
	delay time.Duration
}

// New makes a Discovery. Run starts it.
func New(cfg Config) *Discovery {
	var instance [8]byte
	rand.Read(instance[:])
	return &Discovery{
		cfg: cfg, instance: binary.BigEndian.Uint64(instance[:]), asks: make(chan identity.Fingerprint, 8),
		asked: map[identity.Fingerprint]ask{}, speakers: map[identity.Fingerprint]*speaker{},
	}
}

// Ask asks on the LAN for the node with a key, that cannot be reached. It does not wait, and may be called as often as one likes.
func (d *Discovery) Ask(key identity.Fingerprint) {
	select {
	case d.asks <- key:
	default: // others are asked for already
	}
}

// Run announces and listens until the context ends.
func (d *Discovery) Run(ctx context.Context) {
	d.readLinks(true)
	for {
		next := time.NewTimer(time.Until(d.next()))
		select {
		case <-ctx.Done():
			next.Stop()
			return
		case p := <-d.cfg.Wire.Packets():
			d.hear(p)
		case <-d.cfg.Wire.Changes():
			if d.reread == nil {
				d.reread = time.After(settle)
			}
		case <-d.reread:
			d.reread = nil
			d.readLinks(false)
		case key := <-d.asks:
			d.ask(key)
		case <-next.C:
			d.announce()
		}
		next.Stop()
	}
}

// readLinks reads the links again, and announces the node if they changed.
func (d *Discovery) readLinks(first bool) {
	links, err := d.cfg.Wire.Links()
	if err != nil {
		d.cfg.Log.Warn("the node's addresses cannot be read: the pool's nodes may not find it", "error", err)
		d.reread = time.After(time.Minute)
	}
	if !first && slices.EqualFunc(links, d.links, equalLinks) {
		return
	}
	d.links = links
	now := time.Now()
	d.due = nil
	for _, t := range burst {
		r := round{at: now.Add(t.after + jitter(t.after/2))}
		if t.asks {
			r.wanted = everyone
		}
		d.due = append(d.due, r)
	}
}

func equalLinks(a, b Link) bool {
	return a.Index == b.Index && a.Name == b.Name && slices.Equal(a.Prefixes, b.Prefixes)
}

// next is when to announce next. Something always is due, at the latest the refresh.
func (d *Discovery) next() time.Time {
	next := slices.MinFunc(d.due, func(a, b round) int { return a.at.Compare(b.at) }).at
	if least := d.sent.Add(minGap); next.Before(least) {
		return least
	}
	return next
}

// soon announces the node within a time, unless it will be anyway.
func (d *Discovery) soon(within time.Duration) {
	now := time.Now()
	if !slices.ContainsFunc(d.due, func(r round) bool { return r.at.Before(now.Add(within)) }) {
		d.due = append(d.due, round{at: now.Add(jitter(within))})
	}
}

// announce tells every link where this node is there.
func (d *Discovery) announce() {
	now := time.Now()
	var wanted identity.Fingerprint
	d.due = slices.DeleteFunc(d.due, func(r round) bool {
		past := !r.at.After(now)
		if past && wanted != everyone && !r.wanted.IsZero() {
			wanted = r.wanted
		}
		return past
	})
	d.sent = now
	if len(d.due) == 0 { // spread, so that a pool that started as one does not go on announcing as one
		d.due = append(d.due, round{at: now.Add(refresh*4/5 + jitter(refresh*2/5))})
	}
	key := d.cfg.Key()
	for _, link := range d.links {
		d.count++
		a := announcement{instance: d.instance, count: d.count, port: d.cfg.Port, wanted: wanted}
		for _, p := range link.Prefixes {
			a.addresses = append(a.addresses, p.Addr().WithZone(""))
		}
		if err := d.cfg.Wire.Send(link, a.sign(key)); err != nil {
			d.cfg.Log.Debug("an announcement was not sent", "link", link.Name, "error", err)
		}
	}
}

// ask puts a question into the next announcement, unless it was asked lately.
func (d *Discovery) ask(key identity.Fingerprint) {
	now := time.Now()
	before := d.asked[key]
	if d.cfg.Member(key) == "" || now.Before(before.until) {
		return
	}
	for other := range d.asked {
		if d.cfg.Member(other) == "" {
			delete(d.asked, other)
		}
	}
	delay := min(max(2*before.delay, askFirst), askMost)
	d.asked[key] = ask{until: now.Add(delay), delay: delay}
	d.due = append(d.due, round{at: now, wanted: key})
}

func jitter(most time.Duration) time.Duration {
	return time.Duration(mathrand.Int64N(int64(most) + 1))
}
