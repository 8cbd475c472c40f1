// Package address puts the address at which pods reach the autonomy proxy on this host. It is a link-local one on the loopback
// interface: every kernel has that, it is the same on every node, and it is there before any pod or CNI is. The address
// of a CNI's bridge can be used instead.
package address

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// ErrMissing: the address is on no interface, and is not one that this package may put on one.
var ErrMissing = errors.New("the address is on no interface of this host")

// linkLocal are the addresses that may be put on the loopback interface: they mean something on this host alone.
func linkLocal(ip netip.Addr) bool { return ip.Is4() && ip.IsLinkLocalUnicast() }

// Ensure makes this host have an address. A link-local one is put on the loopback interface unless some interface has it;
// another one must be there, or ErrMissing tells that it is not, which for the bridge of a CNI may be so until the first
// pod starts: Listen works at once all the same.
func Ensure(ip netip.Addr) error {
	have, err := has(ip)
	if err != nil || have {
		return err
	}
	if !linkLocal(ip) {
		return fmt.Errorf("%w: %s; use a link-local one, such as 169.254.64.40, or that of the CNI's bridge", ErrMissing, ip)
	}
	if err := change(ip, true); err != nil {
		return fmt.Errorf("put %s on the loopback interface: %w", ip, err)
	}
	return nil
}

// Remove takes a link-local address off the loopback interface. One that is not there, or is on another interface, is no error.
func Remove(ip netip.Addr) error {
	if !linkLocal(ip) {
		return nil
	}
	if err := change(ip, false); err != nil {
		return fmt.Errorf("take %s off the loopback interface: %w", ip, err)
	}
	return nil
}

// has tells whether any interface has an address.
func has(ip netip.Addr) (bool, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return false, fmt.Errorf("list addresses of this host: %w", err)
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(net.IP(ip.AsSlice())) {
			return true, nil
		}
	}
	return false, nil
}

// Listen listens on an address also while the host does not have it yet.
func Listen(ctx context.Context, address netip.AddrPort) (net.Listener, error) {
	l, err := (&net.ListenConfig{Control: freebind}).Listen(ctx, "tcp", address.String())
	if err != nil {
		return nil, fmt.Errorf("listen for pods: %w", err)
	}
	return l, nil
}
