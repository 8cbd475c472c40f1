package pool_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

func TestMembersKnowWhoAsks(t *testing.T) {
	a, b, c := start(t, "a"), start(t, "b"), start(t, "c")
	join(t, a, b, c)
	for _, from := range []*node{a, b, c} {
		for _, to := range []*node{a, b, c} {
			got, err := from.get(t.Context(), to.name, "/who")
			if from == to {
				if err == nil {
					t.Errorf("%s has a way to itself", from.name)
				}
				continue
			}
			if want := from.name + " to " + to.name; err != nil || got != want {
				t.Errorf("%s: %q, %v", want, got, err)
			}
		}
	}
}

// TestOneConnection: however many ask at once, one connection is made, and a redirect leads nowhere.
func TestOneConnection(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	var asking sync.WaitGroup
	for range 300 { // more than one connection takes at a time
		asking.Go(func() {
			if got, err := a.get(t.Context(), "b", "/who"); err != nil || got != "a to b" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	asking.Wait()
	if s := a.Status(); len(s) != 1 || s[0].Out != 1 || s[0].Problem != nil {
		t.Errorf("status %+v", s)
	}
	if s := b.Status(); s[0].In != 1 {
		t.Errorf("%d connections arrived", s[0].In)
	}
	before := b.seen.Load()
	if _, err := a.get(t.Context(), "b", "/away"); err != nil || b.seen.Load() != before {
		t.Errorf("a redirect was followed: %v", err)
	}
}

// TestStrangers have no byte of HTTP read: the handshake fails, whatever they bring.
func TestStrangers(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	stranger := newIdentity(t, "b") // it says that it is b
	own := func(c *tls.Config) { c.Certificates = []tls.Certificate{*stranger.Key().Certificate()} }
	members := func(c *tls.Config) { c.Certificates = []tls.Certificate{*b.key.Key().Certificate()} }
	good := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	members(good)
	if read, err := knock(a.Addr().String(), good); len(read) == 0 {
		t.Fatalf("a member's raw connection was not answered, so this test would prove nothing: %v", err)
	}
	for what, change := range map[string]func(*tls.Config){
		"no certificate":   func(*tls.Config) {},
		"a key of its own": own,
		"TLS 1.2":          func(c *tls.Config) { members(c); c.MaxVersion = tls.VersionTLS12 },
		"HTTP/1.1":         func(c *tls.Config) { members(c); c.NextProtos = []string{"http/1.1"} },
		"no protocol":      func(c *tls.Config) { members(c); c.NextProtos = nil },
		"two certificates": func(c *tls.Config) {
			members(c)
			c.Certificates[0].Certificate = append(slices.Clone(c.Certificates[0].Certificate), stranger.Key().Certificate().Certificate...)
		},
		"another's envelope": func(c *tls.Config) { own(c); c.Certificates[0].Certificate = b.key.Key().Certificate().Certificate },
		"the node's own key": func(c *tls.Config) { c.Certificates = []tls.Certificate{*a.key.Key().Certificate()} },
	} {
		t.Run(what, func(t *testing.T) {
			c := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
			change(c)
			if read, err := knock(a.Addr().String(), c); len(read) > 0 {
				t.Errorf("was told %q, %v", read, err)
			}
		})
	}
	if a.seen.Load() != 0 {
		t.Errorf("%d requests of strangers were served", a.seen.Load())
	}
	if got := strings.Count(a.log.String(), "level=WARN"); got != 1 {
		t.Errorf("%d warnings, want one a minute", got)
	}
}

// knock does a handshake, says how HTTP/2 begins, and gives the first that is answered.
func knock(address string, c *tls.Config) ([]byte, error) {
	conn, err := tls.Dial("tcp", address, c)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		return nil, err
	}
	buf := make([]byte, 9)
	n, err := io.ReadFull(conn, buf)
	return buf[:n], err
}

// TestAStrangerAtAMembersAddress is refused by who comes, before a byte of HTTP is sent, and the member is found elsewhere.
func TestAStrangerAtAMembersAddress(t *testing.T) {
	a, b, stranger := start(t, "a"), start(t, "b"), start(t, "b")
	members := []pool.Member{a.member(), b.member()}
	set(t, b, members...)
	set(t, stranger, a.member(), stranger.member()) // it would serve a gladly
	members[1].Addresses = []string{stranger.Addr().String()}
	set(t, a, members...)
	if _, err := a.get(t.Context(), "b", "/who"); !errors.Is(err, pool.ErrUnreachable) || !errors.Is(err, pool.ErrForeign) {
		t.Errorf("err = %v", err)
	}
	if _, err := a.get(t.Context(), "b", "/who"); !errors.Is(err, pool.ErrUnreachable) || !strings.Contains(err.Error(), "not tried again yet") {
		t.Errorf("tried again at once: %v", err)
	}
	if s := a.Status(); s[0].Problem == nil || s[0].Out != 0 {
		t.Errorf("status %+v", s)
	}
	members[1].Addresses = []string{stranger.Addr().String(), b.Addr().String()}
	set(t, a, members...)
	if got, err := a.get(t.Context(), "b", "/who"); err != nil || got != "a to b" {
		t.Errorf("%q, %v", got, err)
	}
	if stranger.seen.Load() != 0 {
		t.Error("the stranger was asked")
	}
}

// TestSilentAddresses: an address where nobody says anything costs a quarter of a second, not a timeout.
func TestSilentAddresses(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	m := b.member()
	m.Addresses = []string{silent.Addr().String(), silent.Addr().String(), m.Addresses[0]}
	set(t, a, a.member(), m)
	set(t, b, a.member(), m)
	begun := time.Now()
	if got, err := a.get(t.Context(), "b", "/who"); err != nil || got != "a to b" {
		t.Fatalf("%q, %v", got, err)
	}
	if took := time.Since(begun); took > 2500*time.Millisecond {
		t.Errorf("took %s", took)
	}
}

// TestARemovedMember loses its connections, both ways, and what is under way on them.
func TestARemovedMember(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	ended := make(chan error, 2)
	for _, way := range [][2]*node{{a, b}, {b, a}} {
		go func() {
			_, err := way[0].get(context.Background(), way[1].name, "/wait")
			ended <- err
		}()
	}
	eventually(t, "both ask", func() bool { return a.seen.Load() == 1 && b.seen.Load() == 1 })
	set(t, a, a.member())
	for range 2 {
		select {
		case err := <-ended:
			if err == nil {
				t.Error("a request ended as if it were done")
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a removed member's request goes on")
		}
	}
	if _, err := a.Client("b"); err == nil {
		t.Error("there is a way to a removed member")
	}
	if _, err := b.get(t.Context(), "a", "/who"); err == nil || a.seen.Load() != 1 {
		t.Errorf("a removed member was served: %v", err)
	}
	join(t, a, b)
	if got, err := b.get(t.Context(), "a", "/who"); err != nil || got != "b to a" {
		t.Errorf("after it was named again: %q, %v", got, err)
	}
}

// TestAnOldClient of a removed member finds nobody.
func TestAnOldClient(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	client, err := a.Client("b")
	if err != nil {
		t.Fatal(err)
	}
	set(t, a, a.member())
	if _, err := client.Get("https://b/who"); !errors.Is(err, pool.ErrUnreachable) {
		t.Errorf("err = %v", err)
	}
}

// TestRotation changes a node's key as the fleet repo does it, step by step, while the others learn of it late: somebody always knows it.
func TestRotation(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	first := a.key.Key().Fingerprint()
	list := func(keys ...identity.Fingerprint) []pool.Member {
		m := a.member()
		m.Keys = keys
		return []pool.Member{m, b.member()}
	}
	check := func(step string) {
		t.Helper()
		for _, way := range [][2]*node{{a, b}, {b, a}} {
			if got, err := way[0].get(t.Context(), way[1].name, "/who"); err != nil {
				t.Fatalf("%s: %s to %s: %q, %v", step, way[0].name, way[1].name, got, err)
			}
		}
	}
	learn := func(keys ...identity.Fingerprint) {
		t.Helper()
		if err := a.key.SetListed(keys); err != nil {
			t.Fatal(err)
		}
		set(t, a, list(keys...)...)
	}
	learn(first)
	if err := a.key.Rotate(); err != nil {
		t.Fatal(err)
	}
	second := a.key.Newest()
	check("the next key is made")
	learn(first, second)
	check("only a knows that both are listed")
	set(t, b, list(first, second)...)
	check("all know that both are listed")
	learn(second)
	check("only a knows that the first is gone")
	set(t, b, list(second)...)
	check("the first is gone")
	if got := a.key.Key().Fingerprint(); got != second {
		t.Errorf("a speaks with %s", got)
	}
	eventually(t, "nothing is left of the first key", func() bool {
		s := b.Status()[0]
		return s.In <= 1 && s.Out <= 1
	})
	check("at the end")
}

// TestARestart: a member that comes back is reached again, though the connection to it died unnoticed.
func TestARestart(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	if _, err := a.get(t.Context(), "b", "/who"); err != nil {
		t.Fatal(err)
	}
	b.end()
	eventually(t, "b is missed", func() bool {
		_, err := a.get(t.Context(), "b", "/who")
		return errors.Is(err, pool.ErrUnreachable)
	})
	again := startWith(t, "b", b.key)
	join(t, a, again)
	if got, err := a.get(t.Context(), "b", "/who"); err != nil || got != "a to b" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestAMemberThatComes is tried again at once, however lately it was not reached.
func TestAMemberThatComes(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	unreachable := b.member()
	unreachable.Addresses = []string{"127.0.0.1:1"}
	set(t, a, a.member(), unreachable)
	set(t, b, a.member(), b.member())
	for range 4 { // it is given more time each time
		eventually(t, "b is tried", func() bool {
			_, err := a.get(t.Context(), "b", "/who")
			return err != nil && !strings.Contains(err.Error(), "not tried again yet")
		})
	}
	if got, err := b.get(t.Context(), "a", "/who"); err != nil || got != "b to a" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := a.get(t.Context(), "b", "/who"); err == nil || strings.Contains(err.Error(), "not tried again yet") {
		t.Errorf("it was not tried again: %v", err)
	}
}

// TestAClientThatLeaves does not end the dial that others wait for.
func TestAClientThatLeaves(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.get(gone, "b", "/who"); !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v", err)
	}
	if got, err := a.get(t.Context(), "b", "/who"); err != nil || got != "a to b" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestMembersThatCannotBe are refused as a whole.
func TestMembersThatCannotBe(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	key := b.member().Keys
	for what, members := range map[string][]pool.Member{
		"a name twice":        {b.member(), b.member()},
		"no name":             {{Keys: key}},
		"one key for two":     {b.member(), {Name: "c", Keys: key}},
		"no key":              {{Name: "c", Keys: []identity.Fingerprint{{}}}},
		"too many keys":       {{Name: "c", Keys: make([]identity.Fingerprint, 5)}},
		"an address, no port": {{Name: "c", Addresses: []string{"10.0.0.1"}}},
		"port 0":              {{Name: "c", Addresses: []string{"10.0.0.1:0"}}},
		"no host":             {{Name: "c", Addresses: []string{":7440"}}},
		"too many":            make([]pool.Member, 1001),
	} {
		if err := a.SetMembers(members); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if got, err := a.get(t.Context(), "b", "/who"); err != nil || got != "a to b" {
		t.Errorf("after members that were refused: %q, %v", got, err)
	}
	set(t, a, a.member(), pool.Member{Name: "b"})
	if _, err := a.get(t.Context(), "b", "/who"); !errors.Is(err, pool.ErrUnreachable) {
		t.Errorf("a member without a key: %v", err)
	}
}

// TestManyStrangers opens connections and says nothing: a member gets in all the same.
func TestManyStrangers(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for i := range 200 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i), 1)}} // each from an address of its own
		c, err := d.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	if got, err := b.get(t.Context(), "a", "/who"); err != nil || got != "b to a" {
		t.Fatalf("%q, %v", got, err)
	}
	ended := 0
	for _, c := range open {
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			ended++
		}
	}
	if ended != len(open) {
		t.Errorf("%d of %d silent connections were ended", ended, len(open))
	}
}

// TestAStrangerThatTriesAndTries costs no more handshakes after a few.
func TestAStrangerThatTriesAndTries(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	stranger := newIdentity(t, "b")
	from := func(address string) error {
		d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		c, err := tls.DialWithDialer(d, "tcp", a.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{*stranger.Key().Certificate()}})
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = c.Read(make([]byte, 1))
		return fmt.Errorf("shook hands, then: %w", err)
	}
	shaken := 0
	for range 20 {
		if err := from("127.2.0.1"); strings.HasPrefix(err.Error(), "shook hands") {
			shaken++
		}
	}
	if shaken < 5 || shaken > 8 {
		t.Errorf("%d handshakes of 20", shaken)
	}
	if err := from("127.2.0.2"); !strings.HasPrefix(err.Error(), "shook hands") {
		t.Errorf("another host is turned away, too: %v", err)
	}
	if got, err := b.get(t.Context(), "a", "/who"); err != nil || got != "b to a" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestLargeBodies go both ways over one connection beside small requests.
func TestLargeBodies(t *testing.T) {
	a, b := start(t, "a"), start(t, "b")
	join(t, a, b)
	const size = 32 << 20
	client, err := a.Client("b")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan string, 1)
	go func() {
		res, err := client.Post("https://b/take", "application/octet-stream", io.LimitReader(zeroes{}, size))
		if err != nil {
			done <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		done <- string(body)
	}()
	for got := ""; got == ""; {
		select {
		case got = <-done:
			if got != fmt.Sprintf("%d <nil>", size) {
				t.Errorf("took %q", got)
			}
		default:
			if got, err := a.get(t.Context(), "b", "/who"); err != nil || got != "a to b" {
				t.Errorf("%q, %v", got, err)
			}
		}
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }
