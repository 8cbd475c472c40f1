//go:build e2e

package pool_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/holdfast-dev/holdfast/edgeagent/pool"
	"github.com/holdfast-dev/holdfast/edgeagent/pool/discovery"
	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
)

// agentDir, in the environment, makes this program a node of the pool, whose files are there; agentSilent one that announces nothing.
const agentDir, agentSilent = "HOLDFAST_TEST_POOL_AGENT", "HOLDFAST_TEST_POOL_SILENT"

func TestMain(m *testing.M) {
	dir, agent := os.LookupEnv(agentDir)
	if !agent {
		os.Exit(m.Run())
	}
	if err := serveAgent(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// order is what the test has a node do, answer what came of it.
type order struct {
	Members []pool.Member `json:",omitempty"`
	Get     string        `json:",omitempty"` // the member to ask
	Path    string        `json:",omitempty"`
	Replay  bool          `json:",omitempty"`
	Within  time.Duration `json:",omitempty"`
}

type answer struct {
	Body   string
	Error  string
	Took   time.Duration
	Seen   int64 // requests that the node's handler got
	Status []status
}

type status struct {
	Name      string
	In, Out   int
	Addresses []string
}

func files(dir string) identity.Files {
	return identity.Files{Key: filepath.Join(dir, "node.key"), SealingKey: filepath.Join(dir, "sealing.key")}
}

// serveAgent is a node: it obeys until its input ends, which it does with the test, however that ends.
func serveAgent(dir string) error {
	id, err := identity.Open(files(dir))
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", id.Node())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wire discovery.Wire
	if os.Getenv(agentSilent) == "" {
		if wire, err = discovery.OpenMulticast(ctx, discovery.DefaultPort, nil, log); err != nil {
			return err
		}
	}
	p, err := pool.Open(ctx, pool.Config{
		Node: id.Node(), Key: id.Key, Listen: ":7440", Book: discovery.OpenBook(filepath.Join(dir, "pool.json"), log), Wire: wire, Log: log,
	})
	if err != nil {
		return err
	}
	a := &agent{Pool: p, id: id}
	p.Handle("/who", http.HandlerFunc(a.who))
	p.Handle("/wait", http.HandlerFunc(a.wait))
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			break
		}
		if err := out.Encode(a.obey(ctx, o)); err != nil {
			return err
		}
	}
	cancel()
	return <-done
}

type agent struct {
	*pool.Pool
	id   *identity.Identity
	seen atomic.Int64
}

func (a *agent) who(w http.ResponseWriter, r *http.Request) {
	a.seen.Add(1)
	fmt.Fprintf(w, "%s to %s", pool.MemberOf(r), a.id.Node())
}

func (a *agent) wait(w http.ResponseWriter, r *http.Request) {
	a.seen.Add(1)
	http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func (a *agent) obey(ctx context.Context, o order) (got answer) {
	begun := time.Now()
	err := func() error {
		switch {
		case o.Members != nil:
			return a.SetMembers(o.Members)
		case o.Replay:
			return replay(o.Within)
		case o.Get != "":
			ctx, cancel := context.WithTimeout(ctx, o.Within)
			defer cancel()
			body, err := a.get(ctx, o.Get, o.Path)
			got.Body = body
			return err
		}
		return nil
	}()
	if err != nil {
		got.Error = err.Error()
	}
	got.Took, got.Seen = time.Since(begun), a.seen.Load()
	for _, s := range a.Status() {
		got.Status = append(got.Status, status{s.Name, s.In, s.Out, s.Addresses})
	}
	return got
}

func (a *agent) get(ctx context.Context, member, path string) (string, error) {
	client, err := a.Client(member)
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+member+path, nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

// replay sends again every announcement that is heard, as it is and in the name of others, as a spoofer does.
func replay(within time.Duration) error {
	link, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	group := &net.UDPAddr{IP: net.IPv4(239, 255, 74, 40), Port: discovery.DefaultPort}
	c, err := net.ListenMulticastUDP("udp4", link, group)
	if err != nil {
		return err
	}
	defer c.Close()
	p := ipv4.NewPacketConn(c)
	if err := p.SetMulticastInterface(link); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(within))
	buf := make([]byte, 2000)
	for heard := 0; ; heard++ {
		n, err := c.Read(buf)
		if err != nil {
			if heard == 0 {
				return fmt.Errorf("no announcement was heard: %w", err)
			}
			return nil
		}
		for i := range 200 {
			forged := append([]byte(nil), buf[:n]...)
			if i > 0 {
				forged[19] += byte(i)                            // newer
				copy(forged[n-64-4:n-64], []byte{10, 77, 0, 66}) // elsewhere
			}
			if _, err := p.WriteTo(forged, nil, group); err != nil {
				return err
			}
		}
	}
}
