package address

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace runs a test in a network namespace of its own, so that it never touches the host's addresses.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Errorf("ip link set lo up: %v: %s", err, out)
			return
		}
		f()
	}()
	<-done
}

func shown(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("ip", "-o", "-4", "addr", "show").CombinedOutput()
	if err != nil {
		t.Errorf("ip addr: %v: %s", err, out)
	}
	return string(out)
}

func TestEnsureAndRemove(t *testing.T) {
	ip := netip.MustParseAddr("169.254.64.40")
	inNamespace(t, func() {
		for range 2 { // the second time there is nothing to do
			if err := Ensure(ip); err != nil {
				t.Error(err)
			}
			if got := shown(t); strings.Count(got, "169.254.64.40/32 scope host lo") != 1 {
				t.Errorf("addresses:\n%s", got)
			}
			if err := change(ip, true); err != nil {
				t.Errorf("added although it is there: %v", err)
			}
		}
		for range 2 {
			if err := Remove(ip); err != nil {
				t.Error(err)
			}
			if got := shown(t); strings.Contains(got, "169.254.64.40") || !strings.Contains(got, "127.0.0.1") {
				t.Errorf("addresses:\n%s", got)
			}
		}
	})
}

// TestAddressOfABridge: an address that is not link-local is never added nor removed, but can be listened on before it is there.
func TestAddressOfABridge(t *testing.T) {
	ip := netip.MustParseAddr("10.88.0.1")
	inNamespace(t, func() {
		if err := Ensure(ip); !errors.Is(err, ErrMissing) {
			t.Errorf("%v", err)
		}
		l, err := Listen(context.Background(), netip.AddrPortFrom(ip, 0))
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close()
		if out, err := exec.Command("ip", "addr", "add", "10.88.0.1/24", "dev", "lo").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
			return
		}
		if err := errors.Join(Ensure(ip), Remove(ip)); err != nil || !strings.Contains(shown(t), "10.88.0.1/24") {
			t.Errorf("%v\n%s", err, shown(t))
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		c.Close()
		server, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer server.Close()
		if n, err := server.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%d, %v", n, err)
		}
	})
}

// TestAPodReachesIt: from another namespace, through a veth whose host end has no address, as with some CNIs, and whose default
// route leads to the host.
func TestAPodReachesIt(t *testing.T) {
	inNamespace(t, func() {
		run := func(command string) bool {
			out, err := exec.Command("sh", "-ec", command).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v: %s", command, err, out)
			}
			return err == nil
		}
		// The pod's namespace lives as long as the process that holds it.
		pod := exec.Command("unshare", "-n", "cat")
		in, err := pod.StdinPipe()
		if err != nil {
			t.Error(err)
			return
		}
		out, err := pod.StdoutPipe()
		if err == nil {
			err = pod.Start()
		}
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { in.Close(); pod.Wait() }()
		// It answers once it is in its namespace.
		if _, err := in.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
			t.Error(err)
		}
		t.Setenv("POD", strconv.Itoa(pod.Process.Pid))
		if !run(`ip link add host address 02:00:00:00:00:01 type veth peer name eth0 netns $POD
			ip link set host up
			ip route add 10.88.0.7/32 dev host
			nsenter -n -t $POD sh -ec '
				ip addr add 10.88.0.7/32 dev eth0
				ip link set eth0 up
				ip route add 169.254.1.1 dev eth0 scope link
				ip route add default via 169.254.1.1 dev eth0
				ip neigh add 169.254.1.1 dev eth0 lladdr 02:00:00:00:00:01'`) {
			return
		}
		ip := netip.MustParseAddr("169.254.64.40")
		if err := Ensure(ip); err != nil {
			t.Error(err)
			return
		}
		l, err := Listen(context.Background(), netip.AddrPortFrom(ip, 6440))
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				c.Write([]byte("hello"))
				c.Close()
			}
		}()
		got, err := exec.Command("nsenter", "-n", "-t", strconv.Itoa(pod.Process.Pid), "bash", "-c", "timeout 10 cat < /dev/tcp/169.254.64.40/6440").CombinedOutput()
		if err != nil || string(got) != "hello" {
			t.Errorf("%q, %v", got, err)
		}
		// The host does not take the address as its own where it has no other.
		if out, err := exec.Command("ip", "route", "get", "10.88.0.7").CombinedOutput(); err != nil || strings.Contains(string(out), "src 169.254") {
			t.Errorf("%v: %s", err, out)
		}
	})
}
