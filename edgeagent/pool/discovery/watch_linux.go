package discovery

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// watchAddresses calls changed whenever the kernel says that links or addresses changed, until it is closed. What the kernel says is not
// read: who is called looks again.
func watchAddresses(changed func()) (io.Closer, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind", err), unix.Close(fd))
	}
	w := &addressWatch{socket: os.NewFile(uintptr(fd), "netlink"), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		buf := make([]byte, 8<<10)
		for {
			_, err := w.socket.Read(buf)
			if err != nil && !errors.Is(err, unix.ENOBUFS) { // so many changes that some were lost: look again, too
				return
			}
			changed()
		}
	}()
	return w, nil
}

type addressWatch struct {
	socket *os.File
	done   chan struct{}
}

func (w *addressWatch) Close() error {
	err := w.socket.Close()
	<-w.done
	return err
}
