//go:build bench

package images_test

import (
	"testing"

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
			for b.Loop() {
				mustAllow(b, tr, m, image, "build")
			}
		})
	}
}
