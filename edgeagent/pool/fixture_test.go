package pool_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/edgeagent/pool"
	"github.com/holdfast-dev/holdfast/edgeagent/pool/discovery"
	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
	"github.com/holdfast-dev/holdfast/policy/enrolment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a node with its pool, listening on loopback.
type node struct {
	*pool.Pool
	name string
	key  *identity.Identity
	seen atomic.Int64 // requests that its handlers got
	log  *syncBuffer
	end  func()
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newIdentity(t testing.TB, name string) *identity.Identity {
	t.Helper()
	dir := t.TempDir()
	id, err := identity.Make(identity.Files{Key: filepath.Join(dir, "node.key"), SealingKey: filepath.Join(dir, "sealing.key")}, "kelp", name, enrolment.NewSecret())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// start starts a node whose handlers say who asks, and hold on to a request that wants it.
func start(t testing.TB, name string) *node {
	return startWith(t, name, newIdentity(t, name))
}

func startWith(t testing.TB, name string, id *identity.Identity) *node {
	t.Helper()
	n := &node{name: name, key: id, log: &syncBuffer{}}
	log := slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p, err := pool.Open(t.Context(), pool.Config{Node: name, Key: id.Key, Listen: "127.0.0.1:0", Book: discovery.OpenBook("", log), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	n.Pool = p
	p.Handle("/who", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.seen.Add(1)
		fmt.Fprintf(w, "%s to %s", pool.MemberOf(r), name)
	}))
	p.Handle("/wait", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.seen.Add(1)
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	p.Handle("/take", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.seen.Add(1)
		size, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v", size, err)
	}))
	p.Handle("/away", http.RedirectHandler("https://elsewhere.example/who", http.StatusFound))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	n.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: run: %v", name, err)
		}
	})
	t.Cleanup(n.end)
	return n
}

// member is how the fleet repo has a node.
func (n *node) member() pool.Member {
	return pool.Member{Name: n.name, Keys: []identity.Fingerprint{n.key.Key().Fingerprint()}, Addresses: []string{n.Addr().String()}}
}

// join tells nodes of all nodes.
func join(t testing.TB, nodes ...*node) {
	t.Helper()
	var members []pool.Member
	for _, n := range nodes {
		members = append(members, n.member())
	}
	for _, n := range nodes {
		set(t, n, members...)
	}
}

func set(t testing.TB, n *node, members ...pool.Member) {
	t.Helper()
	if err := n.SetMembers(members); err != nil {
		t.Fatal(err)
	}
}

// get asks a member.
func (n *node) get(ctx context.Context, member, path string) (string, error) {
	client, err := n.Client(member)
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

// eventually polls until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestOneConnection: however many ask at once, one connection is made, and a redirect leads nowhere.
// TestStrangers have no byte of HTTP read: the handshake fails, whatever they bring.
// knock does a handshake, says how HTTP/2 begins, and gives the first that is answered.
// TestAStrangerAtAMembersAddress is refused by who comes, before a byte of HTTP is sent, and the member is found elsewhere.
// TestSilentAddresses: an address where nobody says anything costs a quarter of a second, not a timeout.
// TestARemovedMember loses its connections, both ways, and what is under way on them.
// TestAnOldClient of a removed member finds nobody.
// TestRotation changes a node's key as the fleet repo does it, step by step, while the others learn of it late: somebody always knows it.
// TestARestart: a member that comes back is reached again, though the connection to it died unnoticed.
// TestAMemberThatComes is tried again at once, however lately it was not reached.
// TestAClientThatLeaves does not end the dial that others wait for.
// TestMembersThatCannotBe are refused as a whole.
// TestManyStrangers opens connections and says nothing: a member gets in all the same.
// TestAStrangerThatTriesAndTries costs no more handshakes after a few.
// TestLargeBodies go both ways over one connection beside small requests.
