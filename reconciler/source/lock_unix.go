//go:build unix

package source

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockClone keeps other processes from fetching into the clone. The kernel drops the lock when its holder ends, however it
// ends: a lock file that is left behind locks nothing.
func lockClone(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, storing("make the clone's parent folder", err)
	}
	f, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, storing("lock the clone", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("another process is fetching into %s: wait for it", dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	// Unlocked by name, not only by closing: a program that is being started just now has a copy of the file for a moment.
	return func() error { return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close()) }, nil
}
