package discovery

import (
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
	"github.com/holdfast-dev/holdfast/policy/enrolment"
)

// newKey makes a node's key.
func newKey(t testing.TB, node string) *identity.Key {
	t.Helper()
	dir := t.TempDir()
	id, err := identity.Make(identity.Files{Key: filepath.Join(dir, "node.key"), SealingKey: filepath.Join(dir, "sealing.key")}, "kelp", node, enrolment.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	return id.Key()
}

func addrs(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func TestPackets(t *testing.T) {
	key := newKey(t, "a")
	for _, a := range []announcement{
		{port: 7440},
		{port: 1, instance: 1 << 63, count: 1 << 31, addresses: addrs("10.0.0.1")},
		{port: 65535, wanted: key.Fingerprint(), addresses: addrs("10.0.0.1", "fd00::1", "fe80::1", "169.254.1.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5")},
	} {
		raw := a.sign(key)
		got, err := parse(raw)
		a.key = key.Public()
		if err != nil || !reflect.DeepEqual(got, a) || !signed(raw, got.key) {
			t.Errorf("%+v became %+v: %v", a, got, err)
		}
		if len(raw) > MaxPacket {
			t.Errorf("a packet of %d bytes", len(raw))
		}
	}
	if raw := (announcement{port: 1, addresses: slices.Repeat(addrs("10.0.0.1"), 20)}).sign(key); len(raw) != MaxPacket {
		t.Errorf("%d bytes with too many addresses", len(raw))
	}
}

// TestEveryByteIsSigned flips each: the packet no longer parses, is another key's, or its signature is wrong.
func TestEveryByteIsSigned(t *testing.T) {
	key := newKey(t, "a")
	raw := announcement{port: 7440, instance: 5, count: 6, addresses: addrs("10.0.0.1", "fd00::1"), wanted: key.Fingerprint()}.sign(key)
	for i := range raw {
		changed := slices.Clone(raw)
		changed[i] ^= 1
		if a, err := parse(changed); err == nil && signed(changed, a.key) {
			t.Errorf("byte %d is not signed", i)
		}
	}
}

func TestPacketsThatAreNone(t *testing.T) {
	key := newKey(t, "a")
	good := announcement{port: 7440, addresses: addrs("10.0.0.1")}.sign(key)
	many := slices.Clone(good)
	many[7] = 200
	for what, raw := range map[string][]byte{
		"nothing": nil, "cut": good[:len(good)-1], "longer": append(slices.Clone(good), 0), "another magic": append([]byte("HFd2"), good[4:]...),
		"more addresses than there are": many, "huge": make([]byte, 9000),
		"port 0":      announcement{addresses: addrs("10.0.0.1")}.sign(key),
		"multicast":   announcement{port: 1, addresses: addrs("239.1.1.1")}.sign(key),
		"loopback":    announcement{port: 1, addresses: addrs("127.0.0.1")}.sign(key),
		"mapped":      announcement{port: 1, addresses: addrs("::ffff:127.0.0.1")}.sign(key),
		"unspecified": announcement{port: 1, addresses: addrs("::")}.sign(key),
		"broadcast":   announcement{port: 1, addresses: addrs("255.255.255.255")}.sign(key),
	} {
		if a, err := parse(raw); err == nil {
			t.Errorf("%s: parsed as %+v", what, a)
		}
	}
}

// FuzzPacket: what parses is bounded, and says the same when it is written again.
func FuzzPacket(f *testing.F) {
	key := newKey(f, "a")
	f.Add(announcement{port: 7440, instance: 5, count: 6, addresses: addrs("10.0.0.1", "fd00::1"), wanted: key.Fingerprint()}.sign(key))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := parse(raw)
		if err != nil {
			return
		}
		if len(raw) > MaxPacket || len(a.addresses) > maxAddresses || a.port == 0 || slices.ContainsFunc(a.addresses, func(a netip.Addr) bool { return !usable(a) }) {
			t.Fatalf("parsed as %+v", a)
		}
		again, err := parse(a.sign(key))
		again.key = a.key
		if err != nil || !reflect.DeepEqual(again, a) {
			t.Fatalf("%+v became %+v: %v", a, again, err)
		}
		signed(raw, a.key)
	})
}
