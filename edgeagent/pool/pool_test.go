package pool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/pool"
)

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
	if took := time.Since(begun); took > 2900*time.Millisecond {
		t.Errorf("took %s", took)
	}
}

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
