package lab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// removeBridges removes the bridges that bridges/ names.
func removeBridges(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "bridges", "*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		name := filepath.Base(file)
		if _, err := net.InterfaceByName(name); err != nil {
			continue // not made, or gone already
		}
		errs = append(errs, ip("link", "delete", name))
	}
	return errors.Join(errs...)
}

// subnet is the network of one node's pods: a /24, by its first three bytes. The node itself has its first address.
type subnet [3]byte

func (s subnet) cidr() string    { return fmt.Sprintf("%d.%d.%d.0/24", s[0], s[1], s[2]) }
func (s subnet) gateway() string { return s.address(1) }

func (s subnet) address(host byte) string { return fmt.Sprintf("%d.%d.%d.%d", s[0], s[1], s[2], host) }

// makeNetwork makes the bridge that Options.Services asks for, and picks where the links are.
func (l *Lab) makeNetwork() error {
	if !l.opts.Services {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("a network for services needs root")
	}
	var err error
	if l.network, err = freeSubnet(); err != nil {
		return err
	}
	l.links = subnet{127, 77, l.network[2]}
	return addBridge(l.Dir, fmt.Sprintf("hf%d-0", l.port), l.network.gateway()+"/24")
}

// freeSubnet picks a /24 below 10.200.0.0/13 that no interface of the host is in.
func freeSubnet() (subnet, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return subnet{}, err
	}
	used := func(s subnet) bool {
		return slices.ContainsFunc(addresses, func(a net.Addr) bool {
			network, ok := a.(*net.IPNet)
			return ok && network.Contains(net.ParseIP(s.gateway()))
		})
	}
	for range 100 {
		var b [2]byte
		_, _ = rand.Read(b[:]) // never fails, by its documentation
		if s := (subnet{10, 200 + b[0]%8, b[1]}); !used(s) {
			return s, nil
		}
	}
	return subnet{}, errors.New("no free network for pods below 10.200.0.0/13")
}

// addBridge makes a bridge with an address and records it for removeBridges.
func addBridge(dir, name, address string) error {
	if err := writeFile(filepath.Join(dir, "bridges", name), nil); err != nil {
		return err
	}
	return errors.Join(
		ip("link", "add", name, "type", "bridge"),
		ip("address", "add", address, "dev", name),
		ip("link", "set", name, "up"),
	)
}

func ip(args ...string) error {
	path, err := hostProgram("ip")
	if err != nil {
		return err
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// enableForwarding lets pods of one node reach those of another; it is on already wherever Kubernetes or Docker ran.
func enableForwarding() error {
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1\n"), 0o644)
}
