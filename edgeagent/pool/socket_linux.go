package pool

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unheard is how long what was sent may stay without an answer of the other end's kernel before the connection is given up. It costs no
// packet, unlike TCP's keep-alive, and a quiet pool is quiet.
const unheard = 10 * time.Second

// setSocket readies a TCP socket, listening or connecting. Accepted ones have it from the listening one.
func setSocket(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unheard.Milliseconds()))
	})
	return errors.Join(err, failed)
}
