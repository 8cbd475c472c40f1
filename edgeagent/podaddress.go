package edgeagent

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
	"github.com/holdfast-dev/holdfast/edgeagent/proxy/address"
	"github.com/holdfast-dev/holdfast/edgeagent/store"
)

// podAddressFile names the address that the agent put on the loopback interface. It stays there while the agent does not run, so
// that connections of pods outlive its restart; detaching and unenrolling take it off.
const podAddressFile = "pod-address"

// EnsurePodAddress has the host have the address at which pods reach the proxy, before the agent starts: it takes a capability that
// the agent itself does not need.
func EnsurePodAddress(cfg Config) error {
	if cfg.PodAddress == NoAddress {
		return nil
	}
	at, err := netip.ParseAddrPort(cfg.PodAddress)
	if err != nil {
		return fmt.Errorf("podAddress: %w", err)
	}
	if !exists(cfg.State) {
		return fmt.Errorf("%w: there is no folder %s", store.ErrNotEnrolled, cfg.State)
	}
	return ensurePodAddress(cfg.State, at.Addr())
}

// ensurePodAddress has the host have the address at which pods reach the proxy. It is written down first.
func ensurePodAddress(state string, ip netip.Addr) error {
	if before, err := podAddress(state); err != nil || before == ip {
		return errors.Join(err, address.Ensure(ip))
	}
	if err := removePodAddress(state); err != nil { // another one was configured before
		return err
	}
	if err := durable.WriteFile(filepath.Join(state, podAddressFile), []byte(ip.String()+"\n")); err != nil {
		return err
	}
	return address.Ensure(ip)
}

// removePodAddress takes off what the agent put there.
func removePodAddress(state string) error {
	ip, err := podAddress(state)
	if err != nil || !ip.IsValid() {
		return err
	}
	if err := address.Remove(ip); err != nil {
		return err
	}
	return os.Remove(filepath.Join(state, podAddressFile))
}

// podAddress gives what was written down, the zero address if nothing.
func podAddress(state string) (netip.Addr, error) {
	path := filepath.Join(state, podAddressFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return netip.Addr{}, nil
	}
	if err != nil {
		return netip.Addr{}, err
	}
	ip, err := netip.ParseAddr(strings.TrimSpace(string(raw)))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%s: %w; remove the file", path, err)
	}
	return ip, nil
}
