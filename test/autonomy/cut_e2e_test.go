//go:build e2e

package autonomy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/test/lab"
)

// TestCutRebootComesBack is the promise: the link is black-holed, the power goes, and the node comes back whole; when the link is back
// nothing was deleted or replaced.
func TestCutRebootComesBack(t *testing.T) {
	s := newSite(t, lab.Options{})
	s.deploy("workload.yaml", 12)
	s.deploy("tills.yaml", 12)
	s.watcherSees("shop/till-1", "shop/till-2")
	s.autonomous()
	before := s.pods()

	s.must(s.link.Cut())
	s.crash()
	s.boot()
	s.runs(2*time.Minute, containersOf(before))
	s.worksOffline(before)

	s.must(s.link.Restore())
	s.sameAs(before)
	s.runs(time.Second, containersOf(before))
	s.serviceAnswers("web", named(before, "web-")...)
}

// sameAs waits until the API server has the same pods as before, all Ready, at the addresses they really have.
func (s *site) sameAs(before map[string]pod) {
	s.Helper()
	s.within(time.Minute, func() error {
		after := s.pods()
		if !maps.Equal(uids(after), uids(before)) {
			return fmt.Errorf("pods are %v, were %v", uids(after), uids(before))
		}
		for name, p := range after {
			if !p.ready() {
				return fmt.Errorf("pod %s is not Ready", name)
			}
			if address := s.podAddress(name); p.Status.PodIP != address {
				return fmt.Errorf("pod %s has the address %s, its status says %s", name, address, p.Status.PodIP)
			}
		}
		return nil
	})
}

// worksOffline checks what must work on a node that is cut off.
func (s *site) worksOffline(before map[string]pod) {
	s.Helper()
	s.serviceAnswers("web", named(before, "web-")...)
	s.watcherSees("shop/till-1", "shop/till-2")
	var list struct{ Items []pod }
	s.within(30*time.Second, func() error {
		out, err := s.local("get", "pods", "-A", "--field-selector=spec.nodeName="+s.node.Name, "-o", "json")
		if err == nil {
			err = json.Unmarshal([]byte(out), &list)
		}
		if err == nil && len(list.Items) != len(before) {
			err = fmt.Errorf("kubectl on the node sees %d pods, want %d", len(list.Items), len(before))
		}
		return err
	})
	out, err := s.local("get", "pods", "-A", "--field-selector=spec.nodeName="+s.node.Name)
	if err != nil || !strings.Contains(out, "READY") || !strings.Contains(out, "ledger-0") {
		s.Errorf("kubectl get pods on the node: %v\n%s", err, out)
	}
	s.streams(before)
	web := named(before, "web-")[0]
	if out, err := s.local("delete", "pod", "-n", "shop", web, "--wait=false"); err == nil {
		s.Errorf("deleting a pod on a node that is cut off was acknowledged: %s", out)
	}
}

// streams checks that kubectl on the node reads logs, and runs a program in a pod, where the projected token is.
func (s *site) streams(before map[string]pod) {
	s.Helper()
	web, holder := named(before, "web-")[0], named(before, "identity-")[0]
	s.within(30*time.Second, func() error {
		out, err := s.local("logs", "-n", "shop", web)
		if err == nil && !strings.Contains(out, "serving on port 8080") {
			err = errors.New("no log: " + out)
		}
		return err
	})
	s.within(30*time.Second, func() error {
		out, err := s.local("exec", "-n", "shop", holder, "--", "/lab-image", "cat", "/identity/token", "/identity/labels", "/identity/list.txt")
		if err == nil && (!strings.Contains(out, "eyJ") || !strings.Contains(out, `tier="back"`) || !strings.Contains(out, "pear")) {
			err = errors.New("the projected volume holds: " + out)
		}
		return err
	})
}

// watcherSees waits until the informer in its pod is in sync and has these objects.
func (s *site) watcherSees(want ...string) {
	s.Helper()
	name := named(s.pods(), "watcher-")[0]
	s.within(time.Minute, func() error {
		var seen struct {
			Synced  bool
			Objects map[string]string
		}
		if err := s.get("http://"+s.podAddress(name)+":8080/", &seen); err != nil {
			return err
		}
		for _, w := range want {
			if seen.Objects[w] == "" {
				return fmt.Errorf("the informer lacks %s: %+v", w, seen)
			}
		}
		if !seen.Synced || len(seen.Objects) != len(want) {
			return fmt.Errorf("the informer has %+v, want %v", seen, want)
		}
		return nil
	})
}
