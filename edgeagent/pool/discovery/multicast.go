package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// DefaultPort is the UDP port of announcements.
const DefaultPort = 7440

// The groups: one of the organisation's own scope sent with a TTL of 1, and a transient one of the link's scope ("holdfast").
var (
	group4 = net.IPv4(239, 255, 74, 40)
	group6 = net.ParseIP("ff12::686f:6c64:6661:7374")
)

const (
	// maxLinks bounds the links that are used: Linux lets a socket join 20 groups.
	maxLinks = 16
	// Of what arrives at most readBurst packets are read in readWindow; the rest is left to the kernel, which drops it.
	readBurst  = 64
	readWindow = 100 * time.Millisecond
)

// Multicast is the Wire of a real host: UDP multicast by IPv4 and IPv6.
type Multicast struct {
	port    int
	use     func(net.Interface) bool
	log     *slog.Logger
	v4      *ipv4.PacketConn // nil where the host has no IPv4
	v6      *ipv6.PacketConn // nil where the host has no IPv6
	packets chan Packet
	changes chan struct{}
	watch   interface{ Close() error }
	done    chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex // guards joined
	joined map[int]bool
}

// OpenMulticast opens the sockets. Use says which interfaces are the site's own; nil means Usual. One of IPv4 and IPv6 is enough.
func OpenMulticast(ctx context.Context, port int, use func(net.Interface) bool, log *slog.Logger) (*Multicast, error) {
	if use == nil {
		use = Usual
	}
	m := &Multicast{
		port: port, use: use, log: log, packets: make(chan Packet, readBurst), changes: make(chan struct{}, 1),
		done: make(chan struct{}), joined: map[int]bool{},
	}
	err := errors.Join(m.open4(ctx), m.open6(ctx))
	if m.v4 == nil && m.v6 == nil {
		return nil, fmt.Errorf("listen for announcements on UDP port %d: %w", port, err)
	}
	if err != nil {
		log.Info("announcements are sent and heard by one IP version only", "error", err)
	}
	if m.watch, err = watchAddresses(m.changed); err != nil {
		m.Close()
		return nil, fmt.Errorf("watch the node's addresses: %w", err)
	}
	return m, nil
}

func (m *Multicast) open4(ctx context.Context) error {
	c, err := new(net.ListenConfig).ListenPacket(ctx, "udp4", ":"+strconv.Itoa(m.port))
	if err != nil {
		return err
	}
	p := ipv4.NewPacketConn(c)
	if err := errors.Join(p.SetControlMessage(ipv4.FlagInterface, true), p.SetMulticastTTL(1), p.SetMulticastLoopback(false)); err != nil {
		return errors.Join(err, p.Close())
	}
	m.v4 = p
	m.running.Go(func() {
		m.read(func(b []byte) (int, int, error) {
			n, cm, _, err := p.ReadFrom(b)
			if cm == nil {
				return n, 0, err
			}
			return n, cm.IfIndex, err
		})
	})
	return nil
}

func (m *Multicast) open6(ctx context.Context) error {
	c, err := new(net.ListenConfig).ListenPacket(ctx, "udp6", ":"+strconv.Itoa(m.port))
	if err != nil {
		return err
	}
	p := ipv6.NewPacketConn(c)
	if err := errors.Join(p.SetControlMessage(ipv6.FlagInterface, true), p.SetMulticastHopLimit(1), p.SetMulticastLoopback(false)); err != nil {
		return errors.Join(err, p.Close())
	}
	m.v6 = p
	m.running.Go(func() {
		m.read(func(b []byte) (int, int, error) {
			n, cm, _, err := p.ReadFrom(b)
			if cm == nil {
				return n, 0, err
			}
			return n, cm.IfIndex, err
		})
	})
	return nil
}

// read hands on what is heard, until the socket is closed.
func (m *Multicast) read(next func([]byte) (n, link int, err error)) {
	buf := make([]byte, MaxPacket+1) // one that is cut is no longer one of ours
	window, left := time.Now(), readBurst
	for {
		n, link, err := next(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if now := time.Now(); now.Sub(window) >= readWindow {
			window, left = now, readBurst
		}
		if left--; left <= 0 || err != nil {
			select {
			case <-m.done:
				return
			case <-time.After(readWindow):
			}
		}
		if err != nil {
			m.log.Debug("an announcement was not read", "error", err)
			continue
		}
		select {
		case m.packets <- Packet{Link: link, Data: append([]byte(nil), buf[:n]...)}:
		default: // nobody keeps up, so it is a flood
		}
	}
}

// Packets is as in Wire.
func (m *Multicast) Packets() <-chan Packet { return m.packets }

// Changes is as in Wire.
func (m *Multicast) Changes() <-chan struct{} { return m.changes }

func (m *Multicast) changed() {
	select {
	case m.changes <- struct{}{}:
	default:
	}
}

// Links gives the links to use, and joins the groups on new ones.
func (m *Multicast) Links() ([]Link, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var links []Link
	for _, i := range all {
		if len(links) < maxLinks && i.Flags&(net.FlagUp|net.FlagMulticast|net.FlagLoopback) == net.FlagUp|net.FlagMulticast && m.use(i) {
			if l := linkOf(i); len(l.Prefixes) > 0 {
				links = append(links, l)
			}
		}
	}
	m.join(links)
	return links, nil
}

// join joins the groups on links that are new. The kernel leaves them when an interface goes.
func (m *Multicast) join(links []Link) {
	m.mu.Lock()
	defer m.mu.Unlock()
	there := map[int]bool{}
	for _, l := range links {
		there[l.Index] = true
		if m.joined[l.Index] {
			continue
		}
		i := &net.Interface{Index: l.Index, Name: l.Name}
		if m.v4 != nil {
			if err := m.v4.JoinGroup(i, &net.UDPAddr{IP: group4}); err != nil {
				m.log.Debug("announcements by IPv4 are not heard", "link", l.Name, "error", err)
			}
		}
		if m.v6 != nil {
			if err := m.v6.JoinGroup(i, &net.UDPAddr{IP: group6}); err != nil {
				m.log.Debug("announcements by IPv6 are not heard", "link", l.Name, "error", err)
			}
		}
	}
	m.joined = there
}

// Send sends a packet by each IP version that the link has addresses of. It is an error if none took it.
func (m *Multicast) Send(link Link, data []byte) error {
	var errs []error
	sent := false
	note := func(_ int, err error) {
		sent = sent || err == nil
		errs = append(errs, err)
	}
	if m.v4 != nil && link.has(netip.Addr.Is4) {
		note(m.v4.WriteTo(data, &ipv4.ControlMessage{IfIndex: link.Index}, &net.UDPAddr{IP: group4, Port: m.port}))
	}
	if m.v6 != nil && link.has(netip.Addr.Is6) {
		note(m.v6.WriteTo(data, &ipv6.ControlMessage{IfIndex: link.Index}, &net.UDPAddr{IP: group6, Port: m.port, Zone: link.Name}))
	}
	if sent {
		return nil
	}
	return errors.Join(errs...)
}

// Close closes the sockets and ends what reads them.
func (m *Multicast) Close() error {
	close(m.done)
	var errs []error
	if m.v4 != nil {
		errs = append(errs, m.v4.Close())
	}
	if m.v6 != nil {
		errs = append(errs, m.v6.Close())
	}
	if m.watch != nil {
		errs = append(errs, m.watch.Close())
	}
	m.running.Wait()
	return errors.Join(errs...)
}
