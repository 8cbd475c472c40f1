package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-dev/holdfast/edgeagent/store/bolt"
	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/reconciler/plan"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("HOLDFAST_STORE_CHILD"); dir != "" {
		child(dir, os.Getenv("HOLDFAST_STORE_POINT"))
	}
	goleak.VerifyTestMain(m)
}

// child accepts revision 2 and dies by SIGKILL at the given point.
func child(dir, point string) {
	s, err := Open(dir, func(at string) {
		if at == point {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	})
	if err == nil {
		err = s.Accept(trustAt(2), inForceAt(2))
	}
	fmt.Println("not killed:", err)
	os.Exit(0)
}

func trustAt(n int) verify.State {
	return verify.State{Fleet: "example", Anchor: revision(0), Accepted: revision(n), Generation: uint64(n)}
}

func revision(n int) string { return fmt.Sprintf("%040d", n) }

func inForceAt(n int) *InForce {
	p := plan.Node{Fleet: "example", Pool: "berlin", Name: "n1", Arch: "amd64", Labels: map[string]string{"revision": revision(n), "filler": strings.Repeat("x", 3000)}}
	return &InForce{Revision: revision(n), Plan: p, Digest: p.Digest()}
}

var enrolment = Enrolment{Node: "n1", Pool: "berlin", URL: "https://git.example.com/fleet", Branch: "main"}

// at makes a state folder whose newest accepted revision is n.
func at(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	if err := Create(dir, enrolment, trustAt(0)); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	for i := 1; i <= n; i++ {
		if err := s.Accept(trustAt(i), inForceAt(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// consistent checks that trust and plan belong together and gives the revision.
func consistent(t *testing.T, s State) int {
	t.Helper()
	if s.Enrolment != enrolment || s.Trust.Fleet != "example" {
		t.Fatalf("enrolment lost: %+v", s.Enrolment)
	}
	n := int(s.Trust.Generation)
	if s.Trust.Accepted != revision(n) || (n > 0 && !reflect.DeepEqual(s.InForce, inForceAt(n))) || (n == 0 && s.InForce != nil) {
		t.Fatalf("trust %+v and plan %+v do not belong together", s.Trust, s.InForce)
	}
	return n
}

func TestWhatIsStoredComesBack(t *testing.T) {
	dir := at(t, 1)
	s := open(t, dir)
	rejected := Rejected{Tip: revision(9), Reason: verify.Unsigned, Message: "no", Commit: revision(9), At: time.Unix(5, 0).UTC()}
	report := condition.Report{Node: "n1", Conditions: []condition.Condition{{Type: condition.Ready, Status: condition.True, Reason: "x"}}}
	if err := errors.Join(s.Reject(rejected), s.SaveReport(report)); err != nil {
		t.Fatal(err)
	}
	want := s.Contents()
	s.Close()
	got, err := Read(dir)
	if err != nil || !reflect.DeepEqual(got, want) || consistent(t, got.State) != 1 || got.Rejected[0] != rejected {
		t.Fatalf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestNotEnrolled(t *testing.T) {
	for _, f := range []func(string) error{
		func(d string) error { _, err := Open(d, nil); return err },
		func(d string) error { _, err := Read(d); return err },
	} {
		if err := f(t.TempDir()); !errors.Is(err, ErrNotEnrolled) || !strings.Contains(err.Error(), "holdfast-agent enroll") {
			t.Fatalf("got %v", err)
		}
	}
}

func TestOneAgentAtATime(t *testing.T) {
	dir := at(t, 1)
	open(t, dir)
	if _, err := Open(dir, nil); !errors.Is(err, ErrInUse) {
		t.Fatalf("got %v", err)
	}
	if _, err := Read(dir); !errors.Is(err, ErrInUse) {
		t.Fatalf("got %v", err)
	}
	if err := Create(dir, enrolment, trustAt(0)); err == nil {
		t.Fatal("enrolled over an enrolment")
	}
}

// transaction gives the number of bbolt's newest transaction: it counts commits, each of which is two flushes.
func transaction(t *testing.T, dir string) uint64 {
	t.Helper()
	n, err := bolt.Commits(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestReleaseIsAtOnce: a child that is just being started still has the file open.
func TestReleaseIsAtOnce(t *testing.T) {
	dir := t.TempDir()
	l, err := TakeLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(l.f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := TakeLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestNothingIsWrittenWhenNothingChanges(t *testing.T) {
	dir := at(t, 1)
	s := open(t, dir)
	report := condition.Report{Node: "n1", Revision: revision(1)}
	rejected := Rejected{Tip: revision(9), Reason: verify.Unsigned, At: time.Unix(1, 0)}
	write := func() error {
		rejected.At = rejected.At.Add(time.Hour) // the same case again, later
		return errors.Join(s.Accept(trustAt(1), inForceAt(1)), s.Reject(rejected), s.SaveReport(report), s.SetEnrolment(enrolment))
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	before := transaction(t, dir)
	copyBefore, err := os.Stat(filepath.Join(dir, copyName))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	copyAfter, err := os.Stat(filepath.Join(dir, copyName))
	if err != nil || !os.SameFile(copyBefore, copyAfter) {
		t.Fatalf("the copy was written again: %v", err)
	}
	if after := transaction(t, dir); after != before {
		t.Fatalf("%d commits that changed nothing", after-before)
	}
}

func TestRejectionsAreBounded(t *testing.T) {
	dir := at(t, 0)
	s := open(t, dir)
	for i := range 3 * keptRejections {
		if err := s.Reject(Rejected{Tip: revision(i), Reason: verify.Unsigned}); err != nil {
			t.Fatal(err)
		}
	}
	got := s.Contents().Rejected
	if len(got) != keptRejections || got[0].Tip != revision(3*keptRejections-1) {
		t.Fatalf("%d kept, newest %s", len(got), got[0].Tip)
	}
}

// damages are ways a file comes out of a power cut or a worn flash.
var damages = map[string]func(t *testing.T, path string, raw []byte){
	"empty":       func(t *testing.T, path string, _ []byte) { put0(t, path, nil) },
	"zeros":       func(t *testing.T, path string, raw []byte) { put0(t, path, make([]byte, len(raw))) },
	"noise":       func(t *testing.T, path string, raw []byte) { put0(t, path, bytes.Repeat([]byte("noise"), len(raw)/5)) },
	"one page":    func(t *testing.T, path string, raw []byte) { put0(t, path, raw[:os.Getpagesize()]) },
	"three pages": func(t *testing.T, path string, raw []byte) { put0(t, path, raw[:3*os.Getpagesize()]) },
	"both metas":  func(t *testing.T, path string, raw []byte) { clear(raw[:2*os.Getpagesize()]); put0(t, path, raw) },
	"gone": func(t *testing.T, path string, _ []byte) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	},
}

func put0(t *testing.T, path string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedFileIsMadeAnewFromItsCopy(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			dir := at(t, 3)
			path := filepath.Join(dir, fileName)
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			damage(t, path, raw)
			if c, err := Read(dir); err == nil || consistent(t, c.State) != 3 {
				t.Fatalf("reading beside: %v", err)
			}
			s := open(t, dir)
			if consistent(t, s.State()) != 3 || s.Restored() == nil || !strings.Contains(s.Restored().Error(), path) {
				t.Fatalf("restored because: %v", s.Restored())
			}
			if err := s.Accept(trustAt(4), inForceAt(4)); err != nil {
				t.Fatal(err)
			}
			s.Close()
			s = open(t, dir)
			if consistent(t, s.State()) != 4 || s.Restored() != nil {
				t.Fatalf("after it was restored: %v", s.Restored())
			}
		})
	}
}

func TestWithoutACopyADamagedFileIsRefusedUnchanged(t *testing.T) {
	for name, damage := range damages {
		for what, spoil := range map[string]func(string) error{
			"copy missing": os.Remove,
			"copy altered": func(p string) error { return os.WriteFile(p, []byte("not what it was"), 0o600) },
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				dir := at(t, 3)
				path := filepath.Join(dir, fileName)
				raw, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				damage(t, path, raw)
				damaged, _ := os.ReadFile(path)
				if err := spoil(filepath.Join(dir, copyName)); err != nil {
					t.Fatal(err)
				}
				_, err = Open(dir, nil)
				if name == "gone" && what == "copy missing" {
					if !errors.Is(err, ErrNotEnrolled) {
						t.Fatalf("got %v", err)
					}
					return
				}
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "enrol this node again") {
					t.Fatalf("got %v", err)
				}
				if now, _ := os.ReadFile(path); !bytes.Equal(now, damaged) {
					t.Fatal("the damaged file was changed")
				}
			})
		}
	}
}

// TestTornWrites cuts and spoils the file at every page and in many places within each: what opens is a whole state that
// was stored, never a mixture, and the process never dies.
func TestTornWrites(t *testing.T) {
	dir := at(t, 3)
	path := filepath.Join(dir, fileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		t.Helper()
		s, err := Open(dir, nil)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if n := consistent(t, s.State()); n != 3 && (n != 2 || s.Restored() != nil) {
			t.Fatalf("%s: revision %d, restored: %v", what, n, s.Restored())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		put0(t, path, whole)
		if err := writeCopy(dir, State{Enrolment: enrolment, Trust: trustAt(3), InForce: inForceAt(3)}); err != nil {
			t.Fatal(err)
		}
	}
	page := os.Getpagesize()
	for cut := 0; cut < len(whole); cut += page / 2 {
		put0(t, path, whole[:cut])
		check(fmt.Sprintf("cut at %d", cut))
	}
	for off := 0; off < len(whole); off += 211 {
		spoiled := bytes.Clone(whole)
		for i := off; i < min(off+8, len(spoiled)); i++ {
			spoiled[i] ^= 0xA5
		}
		put0(t, path, spoiled)
		check(fmt.Sprintf("spoiled at %d", off))
	}
}

func TestKilledWhileWriting(t *testing.T) {
	for point, want := range map[string]int{"copied": 1, "committing": 1, "committed": 2} {
		t.Run(point, func(t *testing.T) {
			dir := at(t, 1)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "HOLDFAST_STORE_CHILD="+dir, "HOLDFAST_STORE_POINT="+point)
			out, err := cmd.CombinedOutput()
			if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
				t.Fatalf("the child was not killed at %s: %v %s", point, err, out)
			}
			s := open(t, dir)
			if n := consistent(t, s.State()); n != want || s.Restored() != nil {
				t.Fatalf("revision %d, want %d; restored: %v", n, want, s.Restored())
			}
			if err := s.Accept(trustAt(3), inForceAt(3)); err != nil {
				t.Fatal(err)
			}
			// The copy is never older than state.db, so damage after the kill takes nothing back.
			s.Close()
			damages["zeros"](t, filepath.Join(dir, fileName), make([]byte, 8192))
			if n := consistent(t, open(t, dir).State()); n != 3 {
				t.Fatalf("restored revision %d", n)
			}
		})
	}
}

func TestKilledBetweenCopyAndCommitThenDamaged(t *testing.T) {
	dir := at(t, 1)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HOLDFAST_STORE_CHILD="+dir, "HOLDFAST_STORE_POINT=copied")
	cmd.Run()
	damages["zeros"](t, filepath.Join(dir, fileName), make([]byte, 8192))
	if n := consistent(t, open(t, dir).State()); n != 2 {
		t.Fatalf("restored revision %d: a verdict was taken back or lost", n)
	}
}

func TestKilledWhileEnrolling(t *testing.T) {
	dir := t.TempDir()
	put0(t, filepath.Join(dir, fileName+".tmp"), []byte("half a database"))
	put0(t, filepath.Join(dir, copyName+".tmp"), []byte("half a copy"))
	if _, err := Open(dir, nil); !errors.Is(err, ErrNotEnrolled) {
		t.Fatalf("got %v", err)
	}
	if err := Create(dir, enrolment, trustAt(0)); err != nil {
		t.Fatal(err)
	}
	// Killed before the copy was there.
	if err := os.Remove(filepath.Join(dir, copyName)); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if consistent(t, s.State()) != 0 || s.Restored() != nil {
		t.Fatalf("restored: %v", s.Restored())
	}
	if _, err := readCopy(dir); err != nil {
		t.Fatalf("the copy was not made: %v", err)
	}
}

func TestRemove(t *testing.T) {
	dir := at(t, 2)
	if err := Remove(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, nil); !errors.Is(err, ErrNotEnrolled) {
		t.Fatalf("got %v", err)
	}
	if err := Remove(dir); err != nil {
		t.Fatalf("a second time: %v", err)
	}
}
