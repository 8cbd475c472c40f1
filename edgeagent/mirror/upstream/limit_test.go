package upstream

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// TestLimitIsShared: downloads that share a limit take as long together as the limit says, and each gets its part.
func TestLimitIsShared(t *testing.T) {
	n := newNetwork(t)
	blob := make([]byte, 5<<20)
	digest := oci.SHA256.FromBytes(blob)
	synctest.Test(t, func(t *testing.T) {
		limit := NewLimiter(1 << 20)
		registries := []*Registry{
			n.start(t, Config{Limit: limit}, func(w http.ResponseWriter, _ *http.Request) { w.Write(blob) }),
			client(t, nil, Config{Limit: limit, Host: "example.com", CA: n.pool, DialContext: n.dial}),
		}
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				if got, err := readBlob(registries[i%2], digest, int64(len(blob)), 0); err != nil || len(got) != len(blob) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				if d := time.Since(began); d < 18*time.Second {
					t.Errorf("one was done after %v: the limit was not shared fairly", d)
				}
			})
		}
		wg.Wait()
		if d := time.Since(began); d < 19*time.Second || d > 21*time.Second {
			t.Errorf("20 MiB at 1 MiB/s took %v", d)
		}
	})
}

func TestLimitChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var none *Limiter
		l := NewLimiter(0)
		for _, l := range []*Limiter{none, l, NewLimiter(-1)} {
			if d := took(func() {
				if err := l.wait(t.Context(), 1<<30); err != nil {
					t.Error(err)
				}
			}); d > 0 || l.most(1<<20) != 1<<20 {
				t.Errorf("no limit held a read for %v", d)
			}
		}
		l.Set(1000)
		if l.most(1<<20) > 100 {
			t.Errorf("a read may take %d bytes at 1000 a second", l.most(1<<20))
		}
		if d := took(func() { _ = l.wait(t.Context(), 1000) }); d < 900*time.Millisecond || d > time.Second {
			t.Errorf("1000 bytes took %v", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.wait(ctx, 1000); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		l.Set(1) // the least there is still moves
		if l.most(100) != 1 {
			t.Error("nothing may be read")
		}
		l.Set(0)
		if d := took(func() { _ = l.wait(t.Context(), 1<<30) }); d > 0 {
			t.Errorf("without a limit again a read was held for %v", d)
		}
	})
}
