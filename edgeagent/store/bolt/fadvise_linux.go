package bolt

import (
	"os"

	"golang.org/x/sys/unix"
)

// prefetched is how much of a file is asked for before it is read here and there.
const prefetched = 64 << 20

// prefetch has the kernel read the file in long runs: after a boot its pages would be read one by one. It is only a hint.
func prefetch(f *os.File) {
	unix.Fadvise(int(f.Fd()), 0, prefetched, unix.FADV_WILLNEED)
}
