//go:build !linux

package upstream

import "syscall"

// giveUpEarly does nothing where there is no TCP_USER_TIMEOUT.
func giveUpEarly(_, _ string, _ syscall.RawConn) error { return nil }
