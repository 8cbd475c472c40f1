package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const lockName = "lock"

// Lock is the right to change a state folder. It ends with the process, however that ends.
type Lock struct{ f *os.File }

// TakeLock takes the folder for this process; ErrInUse if another one has it.
func TakeLock(dir string) (*Lock, error) { return flock(dir, syscall.LOCK_EX) }

// flock waits for nobody. A shared lock keeps out those who would change something.
func flock(dir string, how int) (*Lock, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state folder: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if err == nil {
		return &Lock{f}, nil
	}
	f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("state folder %s: %w", dir, ErrInUse)
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// Release gives the folder back. It may be called twice.
func (l *Lock) Release() error {
	if l == nil || l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	// Closing would do, but for a child that is just being started: until it is, it has everything open that this process has.
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	return errors.Join(err, f.Close())
}
