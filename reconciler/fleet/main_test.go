package fleet_test

import (
	"maps"
	"os"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/sandbox"
)

// extraChildren are functions that tests run in children of their own.
var extraChildren = map[string]sandbox.Func{}

func TestMain(m *testing.M) {
	children := fleet.Children()
	maps.Copy(children, extraChildren)
	sandbox.Main(children)
	os.Exit(m.Run())
}
