package edgeagent

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/holdfast-dev/holdfast/edgeagent/store"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/test/fleetrepo"
	"github.com/holdfast-dev/holdfast/test/gitserver"
)

// killedChild is an agent that polls once and dies by SIGKILL at a named point.
func killedChild(state, point string) {
	a, err := Open(Options{Config: Config{State: state, Address: NoAddress, ProxyAddress: NoAddress, PodAddress: NoAddress}, API: newFakeAPI(), Step: func(at string) {
		if at == point {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}})
	if err == nil {
		err = a.poll(context.Background())
	}
	fmt.Println("not killed:", err)
	os.Exit(0)
}

// tempState gives a state folder with a path short enough for a socket.
func tempState(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func enroll(t testing.TB, f *fleetrepo.Fleet, state, node, pool string) Enrolled {
	t.Helper()
	e, err := Enroll(t.Context(), EnrollOptions{State: state, Node: node, Pool: pool, URL: f.URL, CA: f.CA, Branch: "main", Anchor: f.Anchor()})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestKilledBetweenFetchAndApply kills an agent, by a real SIGKILL, at each step of bringing a revision into force. The next
// start goes on with a whole state, old or new, without any network, and arrives where it should when the network is back.
func TestKilledBetweenFetchAndApply(t *testing.T) {
	f := fleetrepo.Start(t, gitserver.Config{Plain: true}, fleetrepo.One("berlin", "n1", "rack", "7"))
	template := tempState(t)
	enroll(t, f, template, "n1", "berlin")
	tip := f.Set(fleetrepo.One("berlin", "n1", "rack", "8"))
	for point, label := range map[string]string{
		"polled": "7", "fetched": "7", "verified": "7", "planned": "7", "copied": "7", "committing": "7", "committed": "8", "applying": "8",
	} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			state := tempState(t)
			if err := os.CopyFS(state+"/s", os.DirFS(template)); err != nil {
				t.Fatal(err)
			}
			state += "/s"
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "HOLDFAST_AGENT_CHILD="+state, "HOLDFAST_AGENT_POINT="+point)
			out, err := cmd.CombinedOutput()
			if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
				t.Fatalf("the child was not killed at %s: %v %s", point, err, out)
			}
			s, err := store.Open(state, nil)
			if err != nil {
				t.Fatal(err)
			}
			kept := s.State()
			if kept.InForce.Plan.Labels["rack"] != label || (kept.InForce.Revision == tip) != (label == "8") || kept.Trust.Accepted != kept.InForce.Revision || s.Restored() != nil {
				t.Fatalf("trust at %s, plan of %s says %s", kept.Trust.Accepted, kept.InForce.Revision, kept.InForce.Plan.Labels["rack"])
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			api := newFakeAPI()
			a, err := Open(Options{Config: Config{State: state, Address: NoAddress, ProxyAddress: NoAddress, PodAddress: NoAddress}, API: api})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- a.Run(ctx) }()
			if <-api.applied; api.label("rack") != label && api.label("rack") != "8" {
				t.Fatalf("the stored plan was not applied: %s", api.label("rack"))
			}
			st, err := Control{State: state}.Sync(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if c, _ := condition.Get(st.Conditions, condition.Ready); c.Status != condition.True || st.Revision != tip || api.label("rack") != "8" {
				t.Fatalf("after the next poll: %+v, label %s", st, api.label("rack"))
			}
			cancel()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func (f *fakeAPI) label(key string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.labels[key]
}
