//go:build e2e

package lease_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
	"github.com/holdfast-dev/holdfast/edgeagent/pool/lease"
)

const (
	childTTL = time.Second
	childEnv = "HOLDFAST_LEASE_CHILD"
)

var childConf = lease.Configuration{Generation: 1, Voters: []lease.Voter{{Name: "a", Priority: 2}, {Name: "b", Priority: 1}, {Name: "c", Priority: 1}}}

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := child(name, os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, name, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child is a member as a process. While it holds it writes its token and the time to a file, each time after it has made sure that it still holds.
func child(name, dir string) error {
	var members []member
	for i, n := range []string{"a", "b", "c"} {
		m, err := newMember(n, byte(i))
		if err != nil {
			return err
		}
		members = append(members, m)
	}
	self := members[slices.IndexFunc(members, func(m member) bool { return m.name == name })]
	cut := func() error {
		if _, err := os.Stat(filepath.Join(dir, "cut-"+name)); err == nil {
			return errors.New("cut off")
		}
		return nil
	}
	clients := map[string]*http.Client{}
	for _, m := range members {
		clients[m.name] = client(self, members, m.name)
	}
	evidence, err := os.OpenFile(filepath.Join(dir, "evidence"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	clock := lease.Clock()
	var node *lease.Node
	node, err = lease.New(lease.Options{Lease: "gateway", Self: name, TTL: childTTL, Store: lease.File(filepath.Join(dir, name)), Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Transport: lease.HTTP{Client: func(to string) (*http.Client, string, error) {
			address, err := os.ReadFile(filepath.Join(dir, "address-"+to))
			return clients[to], "https://" + string(address), errors.Join(err, cut())
		}},
		Work: func(ctx context.Context, held lease.Held) {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				now := clock()
				if still, ok := node.Held(); ok && still.Token == held.Token && now < still.Until {
					fmt.Fprintf(evidence, "%d %d %s\n", now, held.Token, name)
				}
				<-tick.C
			}
		}})
	if err != nil {
		return err
	}
	if err := node.SetConfigurations([]lease.Configuration{childConf}); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, "address-"+name), []byte(l.Addr().String())); err != nil {
		return err
	}
	handler := lease.Handler(node, caller(members))
	server := &http.Server{TLSConfig: serverTLS(self), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cut() != nil {
			panic(http.ErrAbortHandler)
		}
		handler.ServeHTTP(w, r)
	})}
	go server.ServeTLS(l, "", "")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return node.Run(ctx)
}

// line is one piece of evidence: this node held with this token at this time.
type line struct {
	at    time.Duration
	token uint64
	name  string
}

func readEvidence(t *testing.T, dir string) []line {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "evidence"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var lines []line
	for s := bufio.NewScanner(f); s.Scan(); {
		var l line
		if _, err := fmt.Sscan(s.Text(), &l.at, &l.token, &l.name); err == nil {
			lines = append(lines, l)
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	return lines
}

// processes are the members, as processes.
type processes struct {
	t    *testing.T
	dir  string
	runs map[string]*exec.Cmd
}

func (p *processes) start(name string) {
	p.t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$", p.dir)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.runs[name] = cmd
}

func (p *processes) signal(name string, sig syscall.Signal) {
	p.t.Helper()
	if err := p.runs[name].Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// await waits for somebody to hold with a token above one.
func (p *processes) await(above uint64) line {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for _, l := range readEvidence(p.t, p.dir) {
			if l.token > above {
				return l
			}
		}
	}
	p.t.Fatalf("nobody holds with a token above %d after a minute", above)
	return line{}
}

// TestProcesses: three processes over real sockets and disks; whoever holds is killed, stopped, cut off or told to end. What they wrote shows that no two held
// at one time.
func TestProcesses(t *testing.T) {
	p := &processes{t: t, dir: t.TempDir(), runs: map[string]*exec.Cmd{}}
	t.Cleanup(func() {
		for _, cmd := range p.runs {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	for _, name := range []string{"a", "b", "c"} {
		p.start(name)
	}
	clock := lease.Clock()
	held := p.await(0)
	for i := range 8 {
		if lines := readEvidence(t, p.dir); len(lines) > 0 {
			held = lines[len(lines)-1] // a preferred node may have taken over meanwhile
		}
		fault := []string{"kill", "stop", "cut", "term"}[i%4]
		at := clock()
		switch fault {
		case "kill":
			p.signal(held.name, syscall.SIGKILL)
		case "stop":
			p.signal(held.name, syscall.SIGSTOP)
		case "cut":
			if err := os.WriteFile(filepath.Join(p.dir, "cut-"+held.name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		case "term":
			p.signal(held.name, syscall.SIGTERM)
		}
		next := p.await(held.token)
		t.Logf("%s of %s: %s holds %v later", fault, held.name, next.name, next.at-at)
		switch fault {
		case "stop":
			p.signal(held.name, syscall.SIGCONT)
		case "cut":
			if err := os.Remove(filepath.Join(p.dir, "cut-"+held.name)); err != nil {
				t.Fatal(err)
			}
		default:
			p.runs[held.name].Wait()
			p.start(held.name)
		}
		held = next
	}
	lines := readEvidence(t, p.dir)
	tokens := map[uint64]string{}
	for i, l := range lines {
		if i > 0 && l.token < lines[i-1].token {
			t.Errorf("%s held with token %d after %s had held with %d", l.name, l.token, lines[i-1].name, lines[i-1].token)
		}
		if other, ok := tokens[l.token]; ok && other != l.name {
			t.Errorf("%s and %s held with token %d", other, l.name, l.token)
		}
		tokens[l.token] = l.name
	}
	t.Logf("%d lines of evidence, %d times held", len(lines), len(tokens))
}
