package blob

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// killedChild does all that a store does, and dies by SIGKILL at the operation on the disk that the environment names. It prints how
// far it was sure to be.
func killedChild(dir string) {
	at, _ := strconv.Atoi(os.Getenv("HOLDFAST_BLOB_AT"))
	n := 0
	tuned := small(dir)
	tuned.disk.step = func(string, string) error {
		if n++; n == at {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	}
	if err := childWork(dir, tuned); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("operations", n)
}

func childWork(dir string, tuned tuning) error {
	manifest, md := content(2, 300)
	data, d := content(1, downloadSize)
	garbage, gd := content(3, 500)
	wrong, _ := content(4, 500)
	s, err := open(dir, Options{Roots: rootsOf(md)}, tuned)
	if err != nil {
		return err
	}
	if err := errors.Join(s.Put(md, manifest), s.Put(gd, garbage)); err != nil {
		return err
	}
	fmt.Println("manifest 1")
	w, err := s.Writer(d)
	if err == nil {
		err = w.Expect(context.Background(), downloadSize)
	}
	for p := range slices.Chunk(data, 2000) {
		if err == nil {
			_, err = w.Write(p)
			settle(w)
			fmt.Println("offset", w.Offset())
		}
	}
	if err == nil {
		err = w.Commit()
	}
	if err != nil {
		return err
	}
	fmt.Println("blob 1")
	_, other := content(5, 500)
	var mismatch *MismatchError
	if err := s.Put(other, wrong); !errors.As(err, &mismatch) {
		return fmt.Errorf("rubbish: %w", err)
	}
	s.SetBudget(Budget{Quota: downloadSize + 600})
	if _, err := s.Collect(context.Background(), 0); err != nil {
		return err
	}
	return s.Close()
}

// child runs until it is killed at an operation, and returns what it was sure of.
func child(t *testing.T, dir string, at int) (sure map[string]int, killed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "HOLDFAST_BLOB_CHILD="+dir, fmt.Sprint("HOLDFAST_BLOB_AT=", at))
	out, err := cmd.CombinedOutput()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	killed = ok && status.Signaled() && status.Signal() == syscall.SIGKILL
	if err != nil && !killed {
		t.Fatalf("child: %v: %s", err, out)
	}
	sure = map[string]int{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if sure[name], err = strconv.Atoi(value); err != nil {
			t.Fatalf("child: %s", out)
		}
	}
	return sure, killed
}

// TestKilledAtEveryStep kills a process, by a real SIGKILL, before each operation on the disk. The next one has all that was said to be
// there, nothing that is wrong, and fetches no byte twice that was worth a journal.
func TestKilledAtEveryStep(t *testing.T) {
	sure, killed := child(t, t.TempDir(), 0)
	if killed || sure["operations"] < 50 {
		t.Fatalf("without a kill: %v", sure)
	}
	for at := 1; at <= sure["operations"]; at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			sure, killed := child(t, dir, at)
			if !killed {
				t.Fatalf("not killed: %v", sure)
			}
			_, md := content(2, 300)
			data, d := content(1, downloadSize)
			s := openSmall(t, dir, Options{Roots: rootsOf(md)})
			wantUsage(t, s)
			for info, err := range s.All(t.Context(), md) {
				must(t, err)
				must(t, s.Verify(t.Context(), info.Digest))
			}
			if _, err := s.Stat(md); err != nil && sure["manifest"] == 1 {
				t.Errorf("the manifest was there: %v", err)
			}
			w, err := s.Writer(d)
			switch {
			case errors.Is(err, ErrExists):
			case err != nil || sure["blob"] == 1:
				t.Fatalf("the blob was there: %v, %v", sure, err)
			default:
				if int(w.Offset()) < sure["offset"] {
					t.Errorf("goes on at %d; %d were written", w.Offset(), sure["offset"])
				}
				must(t, w.Expect(t.Context(), downloadSize))
				if rest := data[w.Offset():]; len(rest) > 0 {
					write(t, w, rest)
				}
				must(t, w.Commit())
			}
			wantBlob(t, s, d, data)
			wantUsage(t, s)
		})
	}
}

// killedDownload writes nine tenths of a blob, as a store with no test's sizes does, and dies.
func killedDownload(dir, size string) {
	n, _ := strconv.ParseInt(size, 10, 64)
	s, err := Open(dir, Options{})
	if err != nil {
		panic(err)
	}
	w, err := s.Writer(patternDigest(n))
	if err == nil {
		err = w.Expect(context.Background(), n)
	}
	if err == nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(&pattern{n: n}, n*9/10), make([]byte, 64<<10))
	}
	if err != nil {
		panic(err)
	}
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// patternDigest is the digest of a long stream.
func patternDigest(n int64) oci.Digest {
	h := oci.SHA256.New()
	if _, err := io.Copy(h, &pattern{n: n}); err != nil {
		panic(err)
	}
	return oci.FromHash(oci.SHA256, h)
}

// TestKilledAtNineTenths: nothing is fetched again, and little is read again.
func TestKilledAtNineTenths(t *testing.T) {
	size := cmp.Or(os.Getenv("HOLDFAST_BLOB_KILL_SIZE"), "50000000")
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "HOLDFAST_BLOB_CHILD="+dir, "HOLDFAST_BLOB_SIZE="+size)
	if out, err := cmd.CombinedOutput(); !strings.Contains(fmt.Sprint(err), "killed") {
		t.Fatalf("the child was not killed: %v: %s", err, out)
	}
	n, err := strconv.ParseInt(size, 10, 64)
	must(t, err)
	s, err := Open(dir, Options{})
	must(t, err)
	defer s.Close()
	d := patternDigest(n)
	begun := time.Now()
	w := writer(t, s, d, int(n))
	if w.Offset() != n*9/10 {
		t.Errorf("goes on at %d of %d, want nine tenths", w.Offset(), n)
	}
	if again := w.Offset() - w.durable; again > 2*s.checkpointBytes+1<<20 {
		t.Errorf("%d bytes were read again", again)
	}
	t.Logf("goes on at %d of %d after %v", w.Offset(), n, time.Since(begun))
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, &pattern{n: n, at: w.Offset()}, make([]byte, 64<<10))
	must(t, err)
	must(t, w.Commit())
	must(t, s.Verify(t.Context(), d))
}
