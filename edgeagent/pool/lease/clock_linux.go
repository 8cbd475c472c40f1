package lease

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clock gives a clock as a lease needs it: it never goes back, nobody sets it, and it counts the time that the machine was suspended.
func Clock() func() time.Duration {
	return func() time.Duration {
		var t unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
			panic(err) // every kernel that runs Go has it
		}
		return time.Duration(t.Nano())
	}
}
