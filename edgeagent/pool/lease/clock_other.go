//go:build !linux

package lease

import "time"

// Clock gives a clock as a lease needs it: it never goes back and nobody sets it. Here it may stand still while the machine is suspended.
func Clock() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}
