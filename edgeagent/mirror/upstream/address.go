package upstream

import (
	"errors"
	"fmt"
	"net/netip"
)

// errPrivate is in the errors of dialing an undeclared host at an address where only the site's own machines are.
var errPrivate = errors.New("the address is private and the host is not declared")

// notPublic are ranges that netip does not name: shared by carriers, for protocols, documentation, benchmarks, 6to4 relays, reserved;
// and IPv6 ranges that carry an IPv4 address inside, through which a private one could be meant.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("::ffff:0:0:0/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("3fff::/20"),
	netip.MustParsePrefix("5f00::/16"),
	netip.MustParsePrefix("fec0::/10"),
}

// nat64 is the well-known prefix through which a site with IPv6 alone reaches IPv4.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// isPrivate tells whether an address is anything but a public one.
func isPrivate(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if nat64.Contains(a) {
		b := a.As16()
		return isPrivate(netip.AddrFrom4([4]byte(b[12:])))
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return true
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// permit is what a dialer asks about an address of an undeclared host, after its name was resolved.
func (l *link) permit(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial %s: %w", address, err)
	}
	if l.private(ap.Addr()) {
		return fmt.Errorf("dial %s: %w", ap.Addr(), errPrivate)
	}
	return nil
}
