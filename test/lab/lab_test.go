package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestVersionsArePinned(t *testing.T) {
	for _, r := range releases() {
		data, err := os.ReadFile(filepath.Join(r.module, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		if want := "require k8s.io/kubernetes " + r.version + "\n"; !strings.Contains(string(data), want) {
			t.Errorf("%s/go.mod has no line %q", r.module, want)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, fine := range map[string]bool{
		"demo": true, "a-1": true, "": false, "..": false, "a/b": false, "UP": false, "seventeen-letters": false,
	} {
		if err := checkName(name); (err == nil) != fine {
			t.Errorf("checkName(%q) = %v, want fine=%v", name, err, fine)
		}
	}
}

func TestAliveTellsProcessesApart(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	identity := identify(cmd.Process.Pid)
	if alive(identity) != cmd.Process.Pid {
		t.Errorf("alive(%q) does not see a running process", identity)
	}
	if alive(identity+"0") != 0 {
		t.Error("alive takes another process for the same because their numbers agree")
	}
	if err := endProcess(cmd.Process.Pid, "0 0"); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if alive(identity) != 0 {
		t.Error("alive sees a process that ended")
	}
	for _, broken := range []string{"", "1", "x y", "1 1"} {
		if alive(broken) != 0 {
			t.Errorf("alive(%q) is not 0", broken)
		}
	}
}

func TestTakeDownEndsOnlyWhatIsRecorded(t *testing.T) {
	dir := t.TempDir()
	other := exec.Command("sleep", "60")
	ps := newProcesses(dir, false)
	p, err := ps.start("mine", "sleep", "60")
	if err != nil {
		t.Fatal(err)
	}
	mine := p.cmd
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Wait() }()
	defer func() { _ = other.Process.Kill() }()
	// A number that was taken over by a stranger.
	if err := writeFile(filepath.Join(dir, "pids", "stale"), []byte(strings.Replace(identify(other.Process.Pid), " ", " 1", 1))); err != nil {
		t.Fatal(err)
	}
	if err := takeDown(dir); err != nil {
		t.Fatal(err)
	}
	<-p.done
	if mine.ProcessState.Success() {
		t.Error("the recorded process ended by itself")
	}
	if startTime(other.Process.Pid) == "" {
		t.Error("a process that was not the recorded one was ended")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Error("the folder is left")
	}
	if err := takeDown(dir); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

func TestHasArgBelow(t *testing.T) {
	for _, test := range []struct {
		args []string
		want bool
	}{
		{[]string{"-id", "1", "-address", "/lab/a/x.sock"}, true},
		{[]string{"-address", "/lab/ab/x.sock"}, false},
		{[]string{"-other", "/lab/a/x.sock"}, false},
		{[]string{"-address"}, false},
		{nil, false},
	} {
		if got := hasArgBelow(test.args, "-address", "/lab/a"); got != test.want {
			t.Errorf("hasArgBelow(%q) = %v, want %v", test.args, got, test.want)
		}
	}
}
