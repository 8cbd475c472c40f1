package cache

import (
	"syscall"
	"testing"
)

// cpu reports the processor time of each operation: on a busy machine the clock says more about its neighbours.
func cpu(b *testing.B) {
	start := usage(b)
	b.Cleanup(func() { b.ReportMetric(float64(usage(b)-start)/float64(b.N), "cpu-ns/op") })
}

func usage(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
