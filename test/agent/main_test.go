//go:build e2e || bench

package agent

import (
	"os"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Main(revision.Children())
	os.Exit(m.Run())
}
