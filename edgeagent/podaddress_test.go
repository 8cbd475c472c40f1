package edgeagent

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-dev/holdfast/edgeagent/proxy/address"
	"github.com/holdfast-dev/holdfast/edgeagent/store"
)

// TestPodAddress puts addresses on the loopback interface of a network namespace of its own: the one that is configured, and no other.
func TestPodAddress(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		has := func(address string) bool {
			out, err := exec.Command("ip", "-o", "addr", "show", "dev", "lo").CombinedOutput()
			if err != nil {
				t.Error(err)
			}
			return strings.Contains(string(out), address+"/32")
		}
		state := t.TempDir()
		cfg := Config{State: state}.WithDefaults()
		for _, at := range []string{"169.254.64.40", "169.254.64.40", "169.254.64.41"} {
			cfg.PodAddress = at + ":6440"
			if err := EnsurePodAddress(cfg); err != nil || !has(at) {
				t.Errorf("%s: %v", at, err)
			}
		}
		if has("169.254.64.40") {
			t.Error("the address that was configured before is still there")
		}
		for range 2 {
			if err := removePodAddress(state); err != nil || has("169.254.64.41") || exists(filepath.Join(state, podAddressFile)) {
				t.Errorf("not removed, %v", err)
			}
		}
		cfg.PodAddress = "10.88.0.1:6440" // of a bridge that is not there yet
		if err := EnsurePodAddress(cfg); !errors.Is(err, address.ErrMissing) {
			t.Error(err)
		}
		if err := removePodAddress(state); err != nil {
			t.Error(err)
		}
		cfg.PodAddress = NoAddress
		if err := EnsurePodAddress(cfg); err != nil || exists(filepath.Join(state, podAddressFile)) {
			t.Error(err)
		}
		if err := EnsurePodAddress(Config{State: filepath.Join(state, "missing"), PodAddress: "169.254.64.40:6440"}); !errors.Is(err, store.ErrNotEnrolled) {
			t.Error(err)
		}
		if err := os.WriteFile(filepath.Join(state, podAddressFile), []byte("damaged"), 0o600); err != nil {
			t.Error(err)
		}
		if err := ensurePodAddress(state, netip.MustParseAddr("169.254.64.40")); err == nil || !strings.Contains(err.Error(), "remove the file") {
			t.Error(err)
		}
	}()
	<-done
}
