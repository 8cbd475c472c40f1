//go:build e2e

package autonomy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// idleConnections are opened and left alone: most without a word, some after TLS, some after a request with a token.
	idleConnections, idleTLS, idlePods = 10_000, 300, 200
	// crowdMemory is by how much all of them may make an agent at rest grow: some 350 that it keeps, with TLS, at 50 KiB each, and as much
	// again that waits to be collected.
	crowdMemory = 48 << 20
	// restMemory is what an agent that has had callers of all kinds comes back to.
	restMemory = 64 << 20
)

// crowd opens ten thousand connections, and the node is served all the time: at once on the connection that it has, and on a new one.
func (h *hostile) crowd() {
	h.Helper()
	h.must(openFiles())
	client := h.client(h.asNode())
	node := func() error { return h.servesNode(client) }
	h.must(node())
	var held sync.Map
	var opened, slow atomic.Int64
	defer func() {
		held.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
	}()
	hold := func(c net.Conn) { held.Store(c, nil); opened.Add(1) }
	h.givesBack()
	used := h.grows("ten thousand idle connections", crowdMemory, func() {
		var work sync.WaitGroup
		for worker := range 8 {
			work.Go(func() {
				for i := worker; i < idleConnections; i += 8 {
					if c, err := h.idle(i); err == nil {
						hold(c)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { work.Wait(); close(done) }()
		for open := true; open; {
			begun := time.Now()
			if err := node(); err != nil {
				h.Errorf("the node's own connection, with %d others: %v", opened.Load(), err)
				return
			}
			if time.Since(begun) > 2*time.Second {
				slow.Add(1)
			}
			select {
			case <-done:
				open = false
			default:
			}
		}
		// A new connection of the node's takes the place of a stranger.
		h.within(10*time.Second, func() error { return h.servesNode(h.client(h.asNode())) })
	})
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.pid()))
	h.must(err)
	h.Logf("%d idle connections opened, the agent keeps %d files open and grew by %d MiB; %d of the node's answers took more than 2 s", opened.Load(), len(files), used>>20, slow.Load())
	if opened.Load() < idleConnections*9/10 || len(files) > 1000 {
		h.Errorf("of %d connections %d were opened, and the agent has %d files open", idleConnections, opened.Load(), len(files))
	}
}

// idle opens one connection that says no more.
func (h *hostile) idle(i int) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", h.proxy, 30*time.Second)
	if err != nil || i >= idleTLS+idlePods {
		return conn, err
	}
	over := tls.Client(conn, h.tlsTo(nil))
	h.must(over.SetDeadline(time.Now().Add(10 * time.Second)))
	if err := over.Handshake(); err != nil || i >= idlePods { // the proxy may have closed it again
		return conn, nil
	}
	_, _ = io.WriteString(over, "GET "+bankPath+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+h.teller+"\r\n\r\n")
	_, _ = over.Read(make([]byte, 1))
	return conn, nil
}

// servesNode asks for the node as the node.
func (h *hostile) servesNode(client *http.Client) error {
	ctx, cancel := context.WithTimeout(h.Context(), 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+h.proxy+"/api/v1/nodes/"+h.node.Name, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// openFiles raises the limit of open files as far as it may be.
func openFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	if limit.Max < idleConnections+1000 {
		return fmt.Errorf("this machine allows %d open files, the test needs %d", limit.Max, idleConnections+1000)
	}
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// pid is the agent's process.
func (c *callers) pid() int {
	c.Helper()
	raw, err := os.ReadFile(filepath.Join(c.lab.Dir, "pids", "agent"))
	c.must(err)
	var pid int
	_, err = fmt.Sscan(string(raw), &pid)
	c.must(err)
	return pid
}

// anonymous is the memory that only the agent has, in bytes.
func anonymous(pid int) (int, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	var kib int
	_, rest, _ := strings.Cut(string(raw), "RssAnon:")
	_, err = fmt.Sscan(rest, &kib)
	return kib << 10, err
}

// givesBack waits until the agent has given back what it used for what came before: a heap that is mostly garbage grows without need.
func (h *hostile) givesBack() {
	h.Helper()
	h.within(2*time.Minute, func() error {
		now, err := anonymous(h.pid())
		if err == nil && now > restMemory {
			err = fmt.Errorf("the agent still has %d MiB, want at most %d", now>>20, restMemory>>20)
		}
		return err
	})
}

// grows tells by how much the agent's memory grows at most while f runs, and complains if that is more than may be.
func (h *hostile) grows(what string, limit int, f func()) int {
	h.Helper()
	pid := h.pid()
	before, err := anonymous(pid)
	h.must(err)
	most, stop, done := before, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if now, err := anonymous(pid); err == nil {
					most = max(most, now)
				}
			}
		}
	}()
	f()
	close(stop)
	<-done
	if most-before > limit {
		h.Errorf("%s: the agent grew from %d to %d MiB, may grow by %d", what, before>>20, most>>20, limit>>20)
	}
	return most - before
}
