package lab

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// keptOwner is what the owner file of a kept lab says instead of naming a process.
const keptOwner = "kept"

// RunDir is the folder that holds one folder for each lab.
func RunDir() (string, error) {
	dir, err := home()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "run"), nil
}

// Sweep takes down every lab whose owner is dead. Kept labs have no owner and stay until Down.
func Sweep(log io.Writer) error {
	run, err := RunDir()
	if err != nil {
		return err
	}
	return withLock(run, func() error {
		owners, err := filepath.Glob(filepath.Join(run, "*", "owner"))
		if err != nil {
			return err
		}
		var errs []error
		for _, file := range owners {
			owner, err := os.ReadFile(file)
			if err != nil || string(owner) == keptOwner || alive(string(owner)) != 0 {
				continue
			}
			dir := filepath.Dir(file)
			logTo(log, "lab: taking down %s, whose owner is gone", filepath.Base(dir))
			errs = append(errs, takeDown(dir))
		}
		return errors.Join(errs...)
	})
}

// Down takes down a lab by its name, whoever started it. A lab that does not exist is fine.
func Down(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	run, err := RunDir()
	if err != nil {
		return err
	}
	return withLock(run, func() error { return takeDown(filepath.Join(run, name)) })
}

// Names lists the labs that exist.
func Names() ([]string, error) {
	run, err := RunDir()
	if err != nil {
		return nil, err
	}
	owners, err := filepath.Glob(filepath.Join(run, "*", "owner"))
	for i, file := range owners {
		owners[i] = filepath.Base(filepath.Dir(file))
	}
	return owners, err
}

// claim makes a lab's folder and marks whose it is, in one step as seen by Sweep.
func claim(name string, keep bool) (string, error) {
	if name == "" {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails, by its documentation
		name = hex.EncodeToString(b[:])
	}
	if err := checkName(name); err != nil {
		return "", err
	}
	run, err := RunDir()
	if err != nil {
		return "", err
	}
	owner := identify(os.Getpid())
	if keep {
		owner = keptOwner
	}
	dir := filepath.Join(run, name)
	err = withLock(run, func() error {
		if err := os.Mkdir(dir, 0o700); err != nil {
			if errors.Is(err, os.ErrExist) {
				return fmt.Errorf("the lab %s exists already: take it down with `go run ./test/lab/cmd/lab down %s`", name, name)
			}
			return err
		}
		return writeFile(filepath.Join(dir, "owner"), []byte(owner))
	})
	return dir, err
}

// checkName keeps names short, because sockets lie below the folder and their paths are bounded to 107 bytes.
func checkName(name string) error {
	if name == "" || len(name) > 16 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("lab name %q: want 1 to 16 lower-case letters, digits and dashes", name)
	}
	return nil
}

// withLock runs f while no other process holds the lock of dir, which it makes if it is missing.
func withLock(dir string, f func() error) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	return f()
}

// freePort picks a TCP port that nothing listens on. It stays below the range the kernel hands out to outgoing connections
// and that of NodePorts, and picks at random, so that labs starting at the same moment do not meet.
func freePort() (int, error) {
	const first, count, tries = 20000, 10000, 100
	for range tries {
		var b [2]byte
		_, _ = rand.Read(b[:]) // never fails, by its documentation
		port := first + (int(b[0])<<8|int(b[1]))%count
		listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			continue
		}
		return port, listener.Close()
	}
	return 0, fmt.Errorf("no free TCP port between %d and %d", first, first+count-1)
}
