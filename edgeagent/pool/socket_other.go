//go:build !linux

package pool

import "syscall"

// setSocket readies a TCP socket: elsewhere the system's own timeouts must do.
func setSocket(string, string, syscall.RawConn) error { return nil }
