//go:build race

package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// raceCost is how much more memory and time a program built with the race detector takes, amply (its documentation says
// 5 to 10 times the memory and 2 to 20 times the time).
const raceCost = 6

// memoryBytes gives the bound for a program with the race detector: its shadow memory, terabytes of which are mapped
// before main runs, is not the child's doing, so it is let be.
func memoryBytes(mb int64) (uint64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, found := bytes.Cut(status, []byte("VmData:"))
	fields := bytes.Fields(rest)
	if !found || len(fields) == 0 {
		return 0, fmt.Errorf("/proc/self/status has no VmData")
	}
	kb, err := strconv.ParseUint(string(fields[0]), 10, 64)
	if err != nil {
		return 0, err
	}
	return kb<<10 + uint64(mb)*raceCost<<20, nil
}

func cpuTime(d time.Duration) time.Duration { return d * raceCost }

// buildEnvironment spares each child the second for which the race detector waits at exit for late reports; a child has no work
// left then. What is asked for outside comes last, so it wins.
func buildEnvironment() []string { return []string{"GORACE=atexit_sleep_ms=0 " + os.Getenv("GORACE")} }
