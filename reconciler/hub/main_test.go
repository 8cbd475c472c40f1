package hub

import (
	"os"
	"testing"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/holdfast-dev/holdfast/reconciler/revision"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Main(revision.Children())
	ctrllog.SetLogger(logr.Discard()) // the hub's own logger is given to it
	os.Exit(m.Run())
}
