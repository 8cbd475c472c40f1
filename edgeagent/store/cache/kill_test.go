package cache

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// child changes a cache and dies by SIGKILL at a point of writing.
func child(dir, point string) {
	armed := point == "key" || point == "filled" || point == "renamed" || point == "created"
	c, err := Open(dir, Options{GroupDelay: time.Hour, Node: node, Step: func(at string) {
		if armed && at == point {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}})
	if err == nil {
		c.Replace(nodePods, podList, "10", []scope.Item{pod("a", 9), pod("b", 10)})
		err = c.Flush(context.Background())
		armed = true
		c.Apply(nodePods, "12", []scope.Event{put(pod("a", 11)), remove(pod("b", 12))})
		c.Replace(secretKey("s"), podList, "12", []scope.Item{item("v1", "Secret", "s", 5, "bytes")})
		c.Enqueue(context.Background(), "status", "n1", []byte("late"))
	}
	fmt.Println("not killed:", err)
	os.Exit(0)
}

// TestKilled kills a cache, by a real SIGKILL, at each step of making and of writing it. What comes next finds all of a transaction or
// nothing of it.
func TestKilled(t *testing.T) {
	for point, written := range map[string]bool{"key": false, "filled": false, "renamed": false, "created": false, "taken": false, "committing": false, "committed": true} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "HOLDFAST_CACHE_CHILD="+dir, "HOLDFAST_CACHE_POINT="+point)
			out, err := cmd.CombinedOutput()
			if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
				t.Fatalf("the child was not killed at %s: %v %s", point, err, out)
			}
			c := open(t, dir, Options{GroupDelay: time.Hour})
			if reason, message := c.Condition(); reason != ReasonCached {
				t.Fatal(reason, message)
			}
			_, secret := c.Info(secretKey("s"))
			_, queued, err := c.Waiting("status", "n1")
			if secret != written || queued != written || err != nil {
				t.Fatalf("Secret there %v, queued %v: %v", secret, queued, err)
			}
			switch _, there := c.Info(nodePods); {
			case written:
				holds(t, c, nodePods, "12", pod("a", 11))
			case point == "taken" || point == "committing":
				holds(t, c, nodePods, "10", pod("a", 9), pod("b", 10))
			case there:
				t.Fatal("a scope of before the file was made")
			}
			c.Replace(nodePods, podList, "20", []scope.Item{pod("c", 20)})
			closed(t, c)
			c = open(t, dir, Options{GroupDelay: time.Hour})
			holds(t, c, nodePods, "20", pod("c", 20))
			closed(t, c)
			consistent(t, dir)
		})
	}
}
