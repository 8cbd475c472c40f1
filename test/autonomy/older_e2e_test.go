//go:build e2e

package autonomy

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/test/lab"
)

// TestOlderKubelet: a kubelet of the version before, which a rolling upgrade leaves behind the proxy for months, comes back without the
// cloud as well.
func TestOlderKubelet(t *testing.T) {
	q := newQuiet(t, lab.Options{}, lab.NodeOptions{Older: true}, "", nil)
	if got := q.kubectl("get", "node", "shop-1", "-o", "jsonpath={.status.nodeInfo.kubeletVersion}"); got != lab.OlderVersion {
		t.Fatalf("the kubelet's version is %s, want %s", got, lab.OlderVersion)
	}
	q.apply("quiet.yaml")
	q.ready(5)
	q.autonomous()
	before := q.pods()

	q.must(q.link.Cut())
	q.crash()
	q.boot()
	q.runs(time.Minute, containersOf(before))
	q.offlineList(before)
	q.within(30*time.Second, func() error {
		_, err := q.local("exec", "-n", "shop", "ledger-0", "--", "/lab-image", "true")
		return err
	})
	if out, err := q.local("delete", "pod", "-n", "shop", "ledger-0", "--wait=false"); err == nil || !strings.Contains(err.Error(), "ServiceUnavailable") {
		t.Errorf("deleting a pod on a node that is cut off: %q, %v", out, err)
	}

	q.must(q.link.Restore())
	q.sameAs(before)
	q.runs(time.Second, containersOf(before))
}
