package upstream

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// unacknowledged is how long, in milliseconds, the kernel keeps sending what nobody acknowledges. Its default is a quarter of an hour.
const unacknowledged = 10_000

// giveUpEarly sets TCP_USER_TIMEOUT: connections that carry no PINGs of ours, exec and port-forward, end too when the link is gone.
func giveUpEarly(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, unacknowledged)
	}); e != nil {
		return e
	}
	return err
}
