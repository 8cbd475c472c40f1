package blob

import (
	"errors"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// bootID names the boot of the machine: what a process wrote before it was killed is still true in the same boot, and may be lost in
// another.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // then nothing is believed that was not flushed
	}
	return strings.TrimSpace(string(id))
}

// freeSpace is what the file system has for programs that are not root's: root's part of it is a reserve already.
func freeSpace(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, diskError(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return f, nil
}

// openQuiet opens a file that is read only to check it: its access time is nobody's business.
func openQuiet(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOATIME, 0)
	if errors.Is(err, syscall.EPERM) { // the file is another user's
		return os.Open(path)
	}
	return f, err
}

// uncache has the kernel forget a part of a file, so that what is read is what the disk has, and memory stays with what is in use.
func uncache(f *os.File, offset, length int64) {
	unix.Fadvise(int(f.Fd()), offset, length, unix.FADV_DONTNEED) // only a hint
}

// releaseLock gives the folder back. Closing would do, but for a child that is just being started: until it is, it has everything open
// that this process has.
func releaseLock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	return errors.Join(err, f.Close())
}
