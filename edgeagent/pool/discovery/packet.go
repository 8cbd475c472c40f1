package discovery

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
)

// A packet on the wire, big-endian: magic (4), port (2), how many addresses (2), instance (8), count (4), key (32), whom is asked for (32),
// the addresses (16 each), and a signature by the key over all that (64).
const (
	magic        = "HFd1"
	headSize     = 4 + 2 + 2 + 8 + 4 + 32 + 32
	addressSize  = 16
	signSize     = 64
	maxAddresses = 8
	// MaxPacket bounds a packet: it fits every link, and is less than what is needed to make it.
	MaxPacket = headSize + maxAddresses*addressSize + signSize
	// signPurpose keeps a packet's signature from counting for anything else.
	signPurpose = "announcement, version 1"
)

// announcement says where a node can be found on the link it is heard on, and whom it looks for.
type announcement struct {
	key identity.PublicKey
	// instance is random per start, count rises with each packet: what was heard before is not news.
	instance uint64
	count    uint32
	// port is the pool's TCP port at each of the addresses.
	port      uint16
	addresses []netip.Addr
	// wanted is the node that is asked to announce itself, zero for none, or everyone.
	wanted identity.Fingerprint
}

// sign gives the packet. What is over the bound of addresses is left out.
func (a announcement) sign(key *identity.Key) []byte {
	addresses := a.addresses[:min(len(a.addresses), maxAddresses)]
	b := make([]byte, 0, MaxPacket)
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint16(b, a.port)
	b = binary.BigEndian.AppendUint16(b, uint16(len(addresses)))
	b = binary.BigEndian.AppendUint64(b, a.instance)
	b = binary.BigEndian.AppendUint32(b, a.count)
	public := key.Public()
	b = append(b, public[:]...)
	b = append(b, a.wanted[:]...)
	for _, addr := range addresses {
		raw := addr.As16()
		b = append(b, raw[:]...)
	}
	s := key.Sign(signPurpose, b)
	return append(b, s[:]...)
}

var errPacket = errors.New("not an announcement")

// parse reads a packet of anybody. It does not look at the signature: that costs more than all else, and comes last.
func parse(raw []byte) (announcement, error) {
	if len(raw) < headSize+signSize || len(raw) > MaxPacket || string(raw[:4]) != magic {
		return announcement{}, errPacket
	}
	a := announcement{
		port: binary.BigEndian.Uint16(raw[4:]), instance: binary.BigEndian.Uint64(raw[8:]), count: binary.BigEndian.Uint32(raw[16:]),
		key: identity.PublicKey(raw[20:52]), wanted: identity.Fingerprint(raw[52:84]),
	}
	n := int(binary.BigEndian.Uint16(raw[6:]))
	if n > maxAddresses || len(raw) != headSize+n*addressSize+signSize || a.port == 0 {
		return announcement{}, errPacket
	}
	for i := range n {
		addr := netip.AddrFrom16([16]byte(raw[headSize+i*addressSize:])).Unmap()
		if !usable(addr) {
			return announcement{}, errPacket
		}
		a.addresses = append(a.addresses, addr)
	}
	return a, nil
}

// usable tells whether a host can have the address towards others.
func usable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// signed tells whether a packet that parse took was signed by the key it names.
func signed(raw []byte, key identity.PublicKey) bool {
	end := len(raw) - signSize
	return identity.Verify(key, signPurpose, raw[:end], [signSize]byte(raw[end:]))
}
