//go:build !linux

package blob

import (
	"math"
	"os"
)

// bootID: nobody knows, so nothing is believed that was not flushed.
func bootID() string { return "" }

// freeSpace: the agent runs on Linux; elsewhere this package is only built.
func freeSpace(string) (int64, error) { return math.MaxInt64, nil }

func takeLock(path string) (*os.File, error) { return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) }

func openQuiet(path string) (*os.File, error) { return os.Open(path) }

func uncache(*os.File, int64, int64) {}

func releaseLock(f *os.File) error { return f.Close() }
