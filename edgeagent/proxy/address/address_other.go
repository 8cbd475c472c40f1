//go:build !linux

package address

import (
	"errors"
	"net/netip"
	"syscall"
)

func freebind(string, string, syscall.RawConn) error { return nil }

func change(netip.Addr, bool) error { return errors.ErrUnsupported }
