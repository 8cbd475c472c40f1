package fleet_test

import (
	"fmt"
	"testing"

	"github.com/holdfast-dev/holdfast/reconciler/fleet"
	"github.com/holdfast-dev/holdfast/reconciler/fleet/fleettest"
)

func BenchmarkEvaluate(b *testing.B) {
	for _, n := range []int{1, 20} {
		in := fleettest.Input(fleettest.Files(n, 20), 0)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := fleet.Evaluate(in); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint("child", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := fleet.Call(b.Context(), fleet.DefaultLimits(), in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
