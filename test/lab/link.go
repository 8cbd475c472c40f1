package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// maxLinks bounds how many links a lab has: the API server's certificate names their addresses beforehand.
const maxLinks = 8

// Link is a way to the API server that can be cut: a loopback address of its own. A cut link drops every packet both ways, as a dead
// uplink does; nothing is refused. It needs Options.Services.
type Link struct {
	// Server is the API server's address by this link, as in "https://127.77.3.1:20443".
	Server string

	address string
	table   string
	dir     string
}

// NewLink gives a link of its own. Close of the lab takes it away.
func (l *Lab) NewLink() (*Link, error) {
	if !l.opts.Services {
		return nil, errors.New("links need the lab's option Services")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.linkCount == maxLinks {
		return nil, fmt.Errorf("a lab has at most %d links", maxLinks)
	}
	l.linkCount++
	address := l.links.address(l.linkCount)
	return &Link{
		Server:  fmt.Sprintf("https://%s:%d", address, l.port),
		address: address, dir: l.Dir, table: fmt.Sprintf("inet holdfast-lab-%d-%d", l.port, l.linkCount),
	}, nil
}

// Cut drops every packet of the link from now on, also those of open connections. Cutting twice is as cutting once.
func (k *Link) Cut() error {
	return k.rules(fmt.Sprintf("ip daddr %[1]s drop; ip saddr %[1]s drop", k.address))
}

// Refuse has everything on the link refused from now on, as by a host whose network is down: who asks knows at once. Open connections die as
// soon as they are used.
func (k *Link) Refuse() error {
	return k.rules(fmt.Sprintf("ip daddr %[1]s meta l4proto tcp reject with tcp reset", k.address))
}

// rules replaces what holds for the link.
func (k *Link) rules(rules string) error {
	if err := recordTable(k.dir, k.table); err != nil {
		return err
	}
	return nft(fmt.Sprintf(`table %[1]s
delete table %[1]s
table %[1]s {
	chain output {
		type filter hook output priority raw; policy accept;
		%[2]s
	}
}`, k.table, strings.ReplaceAll(rules, "; ", "\n\t\t")))
}

// Restore ends what Cut or Refuse began.
func (k *Link) Restore() error { return deleteTable(k.table) }

// recordTable notes a table of nftables that removeTables is to delete.
func recordTable(dir, table string) error {
	return writeFile(filepath.Join(dir, "tables", table), nil)
}

// removeTables deletes the tables that tables/ names.
func removeTables(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "tables", "*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, file := range files {
		errs = append(errs, deleteTable(filepath.Base(file)))
	}
	return errors.Join(errs...)
}

// deleteTable deletes a table, if it is there. Declaring it first makes deleting one that is not there no error.
func deleteTable(table string) error { return nft("table " + table + "\ndelete table " + table) }

func nft(ruleset string) error {
	path, err := hostProgram("nft")
	if err != nil {
		return err
	}
	cmd := exec.Command(path, "-f", "-")
	cmd.Stdin = strings.NewReader(ruleset)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// hasTable tells whether a table of nftables is there.
func hasTable(table string) (bool, error) {
	path, err := hostProgram("nft")
	if err != nil {
		return false, err
	}
	out, err := exec.Command(path, "list", "tables").Output()
	if err != nil {
		return false, fmt.Errorf("nft list tables: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.TrimSpace(line) == "table "+table {
			return true, nil
		}
	}
	return false, nil
}

// kubeProxyTables are what kube-proxy makes, whose names cannot be chosen: one machine runs one kube-proxy.
var kubeProxyTables = []string{"ip kube-proxy", "ip6 kube-proxy"}

// takeKubeProxy waits until no other lab of this machine has a kube-proxy, up to ten minutes.
func (l *Lab) takeKubeProxy() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kubeProxy != nil {
		return nil
	}
	// Not below RunDir: two users' or caches' labs share one machine's rules.
	lock, err := os.OpenFile("/run/holdfast-lab-kube-proxy.lock", os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	err = poll(10*time.Minute, func() error { return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) })
	if err != nil {
		lock.Close()
		return fmt.Errorf("another lab on this machine has a kube-proxy: %w", err)
	}
	l.kubeProxy = lock
	return nil
}

// StartKubeProxy starts kube-proxy on a node, in its mode nftables, as the user of a kubeconfig. Its rules hold for the whole machine, so
// only one node of one lab has one, and other labs wait for it; they go when the lab does.
func (n *Node) StartKubeProxy(kubeconfig string) (*Process, error) {
	path, err := Program("kube-proxy")
	if err != nil {
		return nil, err
	}
	if err := n.lab.takeKubeProxy(); err != nil {
		return nil, err
	}
	for _, table := range kubeProxyTables {
		recorded := filepath.Join(n.lab.Dir, "tables", table)
		there, err := hasTable(table)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(recorded); there && err != nil {
			return nil, fmt.Errorf("another kube-proxy works on this machine: there is a table %s", table)
		}
		if err := recordTable(n.lab.Dir, table); err != nil {
			return nil, err
		}
	}
	config := n.path("kube-proxy.yaml")
	err = writeFile(config, fmt.Appendf(nil, `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: %q}
hostnameOverride: %q
bindAddress: 127.0.0.1
healthzBindAddress: ""
metricsBindAddress: ""
# Without the right to raise them the machine's limits are left alone.
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, kubeconfig, n.Name))
	if err != nil {
		return nil, err
	}
	n.lab.logf("lab: starting kube-proxy on %s", n.Name)
	return n.lab.procs.start(n.process("kube-proxy"), path, "--config="+config)
}

// StopKubeProxy kills it; its rules stay, as after a crash.
func (n *Node) StopKubeProxy() error { return n.lab.procs.stop(n.process("kube-proxy")) }
