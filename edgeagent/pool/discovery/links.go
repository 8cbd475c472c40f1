package discovery

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// containers are how the interfaces begin that Kubernetes networks, container engines and tunnels make on a node. No other node is there,
// and pods could listen.
var containers = []string{"veth", "cali", "cni", "cilium", "lxc", "docker", "podman", "flannel", "kube", "nodelocaldns", "virbr", "vnet", "tun", "tap", "wg", "holdfast", "dummy", "weave", "antrea", "ovn"}

// Usual tells whether an interface is likely the site's own: not made for containers, virtual machines or tunnels.
func Usual(i net.Interface) bool {
	return i.Flags&net.FlagPointToPoint == 0 &&
		!slices.ContainsFunc(containers, func(prefix string) bool { return strings.HasPrefix(i.Name, prefix) })
}

// linkOf reads an interface's addresses, those first that others can use best.
func linkOf(i net.Interface) Link {
	l := Link{Index: i.Index, Name: i.Name}
	addrs, err := i.Addrs()
	if err != nil {
		return l // it went just now
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		addr, ok := netip.AddrFromSlice(n.IP)
		ones, _ := n.Mask.Size()
		if addr = addr.Unmap(); ok && usable(addr) {
			l.Prefixes = append(l.Prefixes, netip.PrefixFrom(addr, ones))
		}
	}
	slices.SortStableFunc(l.Prefixes, func(a, b netip.Prefix) int { return rank(a.Addr()) - rank(b.Addr()) })
	l.Prefixes = l.Prefixes[:min(len(l.Prefixes), maxAddresses)]
	return l
}

func rank(a netip.Addr) int {
	switch {
	case a.IsLinkLocalUnicast():
		return 2
	case a.Is6():
		return 1
	}
	return 0
}

func (l Link) has(kind func(netip.Addr) bool) bool {
	return slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return kind(p.Addr()) })
}
