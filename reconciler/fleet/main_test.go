package fleet_test

import (
	"os"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Main(fleet.Children())
	os.Exit(m.Run())
}
