//go:build bench

package images_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

// BenchmarkVerify is what a check costs each time an image is pulled: a signature beside the image, and one that is a bundle.
func BenchmarkVerify(b *testing.B) {
	key := anySigner(b)
	tr := trustOf(b, map[string]signer{"build": key}, trust.Image{})
	for name, attach := range places {
		b.Run(name, func(b *testing.B) {
			m := newMemory()
			image := m.image("a")
			attach(m, key, image, image)
			b.ReportAllocs()
			began := cpuTime(b)
			for b.Loop() {
				mustAllow(b, tr, m, image, "build")
			}
			b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
		})
	}
}

// cpuTime is what this process used: on a busy machine the clock says little.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
