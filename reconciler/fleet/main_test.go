package fleet_test

import (
	"maps"
	"os"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

func TestMain(m *testing.M) {
	children := fleet.Children()
	maps.Copy(children, extraChildren())
	sandbox.Main(children)
	os.Exit(m.Run())
}
