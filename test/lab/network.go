package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
