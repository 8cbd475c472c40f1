//go:build !linux

package edgeagent

import (
	"errors"
	"net"
)

// peerUID: agents run on Linux only; elsewhere the package only has to compile.
func peerUID(*net.UnixConn) (uint32, error) {
	return 0, errors.New("who is on the other end of a socket is known on Linux only")
}
