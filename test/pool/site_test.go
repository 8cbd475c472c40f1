//go:build e2e

package pool_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/pool"
	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
	"github.com/holdfast-dev/holdfast/policy/enrolment"
)

// foreign marks a machine that says it is the node whose name comes before.
const foreign = "-foreign"

// site is a LAN: a bridge in a network namespace of its own, which the kernel takes away with the process that holds it.
type site struct {
	t      *testing.T
	bridge *exec.Cmd
	nodes  map[string]*node
}

// node is a machine on the LAN, in a network namespace of its own, with the agent's pool in it.
type node struct {
	site *site
	name string
	dir  string
	key  identity.Fingerprint

	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
	log  *logBuffer
	mu   sync.Mutex // held during an order
	stop func()
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newSite(t *testing.T) *site {
	if os.Getuid() != 0 {
		t.Fatal("network namespaces need root")
	}
	s := &site{t: t, nodes: map[string]*node{}, bridge: exec.Command("cat")} // it ends when the pipe does
	s.bridge.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	in, err := s.bridge.StdinPipe()
	if err == nil {
		err = s.bridge.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); s.bridge.Wait() })
	s.ip(s.bridge, "link add br0 type bridge")
	s.ip(s.bridge, "link set br0 up")
	return s
}

// ip runs the command ip in a process's network namespace.
func (s *site) ip(in *exec.Cmd, args string) {
	s.t.Helper()
	s.run(in, "ip", strings.Fields(args)...)
}

func (s *site) run(in *exec.Cmd, program string, args ...string) string {
	s.t.Helper()
	all := append([]string{"--net=/proc/" + strconv.Itoa(in.Process.Pid) + "/ns/net", program}, args...)
	out, err := exec.Command("nsenter", all...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// add makes a machine with a key, which is not on the LAN yet.
func (s *site) add(name string) *node {
	s.t.Helper()
	n := &node{site: s, name: name, dir: s.t.TempDir(), log: &logBuffer{}}
	id, err := identity.Make(files(n.dir), "kelp", strings.TrimSuffix(name, foreign), enrolment.NewSecret())
	if err != nil {
		s.t.Fatal(err)
	}
	n.key = id.Newest()
	s.nodes[name] = n
	n.start()
	s.t.Cleanup(func() {
		n.stop()
		if s.t.Failed() {
			s.t.Logf("log of %s:\n%s", name, n.log)
		}
	})
	return n
}

// start starts the machine with its agent.
func (n *node) start() {
	n.site.t.Helper()
	n.cmd = exec.Command("/proc/self/exe")
	n.cmd.Env = append(os.Environ(), agentDir+"="+n.dir)
	if strings.HasSuffix(n.name, foreign) {
		n.cmd.Env = append(n.cmd.Env, agentSilent+"=yes")
	}
	n.cmd.Stderr = n.log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	in, err := n.cmd.StdinPipe()
	if err != nil {
		n.site.t.Fatal(err)
	}
	out, err := n.cmd.StdoutPipe()
	if err == nil {
		err = n.cmd.Start()
	}
	if err != nil {
		n.site.t.Fatal(err)
	}
	n.in, n.out = in, json.NewDecoder(out)
	n.stop = sync.OnceFunc(func() { in.Close(); n.cmd.Wait() })
}

// powerCut ends the machine without a word. Its cable goes first, since the kernel takes its time.
func (n *node) powerCut() {
	n.site.t.Helper()
	n.site.ip(n.site.bridge, "link del p-"+n.name)
	n.cmd.Process.Kill()
	n.stop()
}

// plug puts the machine on the LAN, with addresses.
func (n *node) plug(addresses ...string) *node {
	n.site.t.Helper()
	port := "p-" + n.name
	n.site.ip(n.site.bridge, fmt.Sprintf("link add %s type veth peer name eth0 netns %d", port, n.cmd.Process.Pid))
	n.site.ip(n.site.bridge, fmt.Sprintf("link set %s master br0 up", port))
	for _, a := range addresses {
		n.site.ip(n.cmd, "addr add "+a+" dev eth0")
	}
	n.site.ip(n.cmd, "link set eth0 up")
	return n
}

// only4 takes IPv6 from the machine, so that an address that it loses is all it had.
func (n *node) only4() *node {
	n.site.t.Helper()
	n.site.run(n.cmd, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	return n
}

// cable pulls the machine's cable at the switch, or plugs it in again.
func (n *node) cable(state string) {
	n.site.t.Helper()
	n.site.ip(n.site.bridge, fmt.Sprintf("link set p-%s %s", n.name, state))
}

// order has the node do something, and waits for it.
func (n *node) order(o order) answer {
	n.site.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if o.Within == 0 {
		o.Within = 10 * time.Second
	}
	var got answer
	if err := json.NewEncoder(n.in).Encode(o); err != nil {
		n.site.t.Errorf("order to %s: %v", n.name, err)
	} else if err := n.out.Decode(&got); err != nil {
		n.site.t.Errorf("answer of %s: %v", n.name, err)
	}
	return got
}

// members gives nodes as the fleet repo has them, without a single address.
func members(nodes ...*node) (all []pool.Member) {
	for _, n := range nodes {
		all = append(all, pool.Member{Name: n.name, Keys: []identity.Fingerprint{n.key}})
	}
	return all
}

// join tells nodes of all of them.
func join(nodes ...*node) {
	for _, n := range nodes {
		n.tell(members(nodes...))
	}
}

func (n *node) tell(all []pool.Member) {
	n.site.t.Helper()
	if got := n.order(order{Members: all}); got.Error != "" {
		n.site.t.Fatal(got.Error)
	}
}

// reaches waits until the node gets an answer of another, and says how long that took.
func (n *node) reaches(other *node, within time.Duration) time.Duration {
	n.site.t.Helper()
	begun := time.Now()
	for {
		got := n.order(order{Get: other.name, Path: "/who"})
		if got.Error == "" && got.Body == n.name+" to "+other.name {
			return time.Since(begun)
		}
		if time.Since(begun) > within {
			n.site.t.Fatalf("%s does not reach %s within %s: %q, %s; addresses %v", n.name, other.name, within, got.Body, got.Error, got.Status)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// status is how a node stands with another.
func (n *node) status(other *node) status {
	n.site.t.Helper()
	for _, s := range n.order(order{}).Status {
		if s.Name == other.name {
			return s
		}
	}
	return status{}
}
