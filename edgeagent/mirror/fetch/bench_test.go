//go:build bench

package fetch

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/blob"
	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// repeated is a registry of large blobs: a piece of their own, again and again.
type repeated struct {
	pieces map[string][]byte // by digest
	times  int
	rate   int // bytes a second; 0 is no bound
}

func (s *repeated) add(piece []byte) oci.Digest {
	h := oci.SHA256.New()
	for range s.times {
		h.Write(piece)
	}
	d := oci.FromHash(oci.SHA256, h)
	s.pieces[d.String()] = piece
	return d
}

func (s *repeated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	piece := s.pieces[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]
	w.Header().Set("Content-Length", fmt.Sprint(len(piece)*s.times))
	began := time.Now()
	for i := range s.times {
		if s.rate > 0 {
			time.Sleep(time.Until(began.Add(time.Duration(float64((i+1)*len(piece)) / float64(s.rate) * float64(time.Second)))))
		}
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}

// TestMemory is the promise of at most 20 MB more while four blobs stream, however large they are.
func TestMemory(t *testing.T) {
	grown := map[int]int{}
	for _, times := range []int{64, 512} { // MiB
		s := &repeated{pieces: map[string][]byte{}, times: times}
		var digests []string
		for i := range 4 {
			digests = append(digests, s.add(stuff(1<<20+i)).String())
		}
		server := httptest.NewUnstartedServer(nil)
		client(t, server, s)
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), childDir+"="+t.TempDir(), childHost+"="+server.Listener.Addr().String(), childCA+"="+certificatePEM(server),
			childMany+"="+strings.Join(digests, " "))
		began := time.Now()
		out, err := child.CombinedOutput()
		var before, most int
		if _, e := fmt.Sscanf(string(out), "anonymous %d %d", &before, &most); e != nil || err != nil {
			t.Fatalf("the child: %v\n%s", err, out)
		}
		grown[times] = most - before
		t.Logf("4 × %d MiB at once in %v: anonymous memory %d kB before, %d kB at most, +%d kB", times, time.Since(began).Round(time.Second/10), before, most, most-before)
	}
	if grown[512] > 20_000 || grown[512] > grown[64]+5_000 {
		t.Errorf("it grew by %d kB with 4 × 64 MiB and by %d kB with 4 × 512 MiB; want at most 20,000, and no more with more", grown[64], grown[512])
	}
}

// TestCold is the promise of at most 1.05 times what a direct download takes from an upstream paced at 200 Mb/s.
func TestCold(t *testing.T) {
	s := &repeated{pieces: map[string][]byte{}, times: 500, rate: 200e6 / 8}
	piece := stuff(200 << 10)
	want := Want{Repository: "team/app", Digest: s.add(piece), Size: int64(len(piece) * s.times)}
	server := httptest.NewUnstartedServer(nil)
	r := client(t, server, s)
	took := func(f func() (int64, error)) time.Duration {
		began := time.Now()
		if n, err := f(); err != nil || n != want.Size {
			t.Fatalf("%d bytes, %v", n, err)
		}
		return time.Since(began)
	}
	direct := took(func() (int64, error) {
		resp, err := server.Client().Get(server.URL + "/v2/team/app/blobs/" + want.Digest.String())
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		return io.Copy(io.Discard, resp.Body)
	})
	f := fetcher(t, openStore(t, t.TempDir(), blob.Budget{}))
	mirrored := took(func() (int64, error) {
		b, err := f.Blob(t.Context(), want, Registry(r))
		if err != nil {
			return 0, err
		}
		body, err := b.Open(t.Context(), 0)
		if err != nil {
			return 0, err
		}
		defer body.Close()
		return io.Copy(io.Discard, body)
	})
	ratio := mirrored.Seconds() / direct.Seconds()
	t.Logf("%d MB at 200 Mb/s: direct %v, through the fetch %v: %.3f times", want.Size/1e6, direct.Round(time.Millisecond), mirrored.Round(time.Millisecond), ratio)
	if ratio > 1.05 {
		t.Errorf("%.3f times, want at most 1.05", ratio)
	}
	if again, err := read(t.Context(), f, want); err != nil || !bytes.Equal(again[:len(piece)], piece) {
		t.Errorf("read again: %v", err)
	}
}
