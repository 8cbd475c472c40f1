package address

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// freebind lets a socket be bound to an address that is not there yet.
func freebind(network, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		if network == "tcp6" {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
			return
		}
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	})
	return errors.Join(err, failed)
}

// change adds an IPv4 address to the loopback interface, or deletes it. What is so already is no error. The scope is "host":
// with a wider one the kernel would choose the address as the source of packets that leave through interfaces without any,
// as some CNIs have them.
func change(ip netip.Addr, add bool) error {
	lo, err := loopback()
	if err != nil {
		return err
	}
	kind, flags, already := uint16(unix.RTM_DELADDR), uint16(unix.NLM_F_REQUEST|unix.NLM_F_ACK), unix.EADDRNOTAVAIL
	if add {
		kind, flags, already = unix.RTM_NEWADDR, flags|unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.EEXIST
	}
	body := message(unix.IfAddrmsg{Family: unix.AF_INET, Prefixlen: 32, Scope: unix.RT_SCOPE_HOST, Index: uint32(lo)}, ip)
	if err := ask(kind, flags, body); err != nil && !errors.Is(err, already) {
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("%w: it takes the capability CAP_NET_ADMIN", err)
		}
		return err
	}
	return nil
}

func loopback() (int, error) {
	list, err := net.Interfaces()
	if err != nil {
		return 0, err
	}
	for _, i := range list {
		if i.Flags&net.FlagLoopback != 0 {
			return i.Index, nil
		}
	}
	return 0, errors.New("there is no loopback interface")
}

// message gives an ifaddrmsg with the address as IFA_LOCAL and IFA_ADDRESS (rtnetlink(7)).
func message(header unix.IfAddrmsg, ip netip.Addr) []byte {
	order := binary.NativeEndian
	out := []byte{header.Family, header.Prefixlen, header.Flags, header.Scope}
	out = order.AppendUint32(out, header.Index)
	for _, attribute := range []uint16{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
		out = order.AppendUint16(out, 8) // a header of 4 bytes and an address of 4
		out = order.AppendUint16(out, attribute)
		out = append(out, ip.AsSlice()...)
	}
	return out
}

// ask sends one request to the kernel and waits for its acknowledgement.
func ask(kind, flags uint16, body []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("open rtnetlink: %w", err)
	}
	order := binary.NativeEndian
	const sequence = 1
	request := order.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	request = order.AppendUint16(request, kind)
	request = order.AppendUint16(request, flags)
	request = order.AppendUint32(request, sequence)
	request = order.AppendUint32(request, 0) // from: the kernel knows
	if err := unix.Sendto(fd, append(request, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask rtnetlink: %w", err)
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return fmt.Errorf("ask rtnetlink: %w", err)
	}
	const errorAt = unix.SizeofNlMsghdr
	if n < errorAt+int(unsafe.Sizeof(int32(0))) || order.Uint16(answer[4:]) != unix.NLMSG_ERROR || order.Uint32(answer[8:]) != sequence {
		return errors.New("ask rtnetlink: the answer is not an acknowledgement")
	}
	if code := int32(order.Uint32(answer[errorAt:])); code != 0 {
		return syscall.Errno(-code)
	}
	return nil
}
