package pool_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/pool"
)

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
	if shaken < 5 || shaken > 12 {
		t.Errorf("%d handshakes of 20", shaken)
	}
	if err := from("127.2.0.2"); !strings.HasPrefix(err.Error(), "shook hands") {
		t.Errorf("another host is turned away, too: %v", err)
	}
	if got, err := b.get(t.Context(), "a", "/who"); err != nil || got != "b to a" {
		t.Errorf("%q, %v", got, err)
	}
}
