//go:build !race

package sandbox

import "time"

// memoryBytes and cpuTime are what the limits come to in this build, buildEnvironment what its children need besides.
func memoryBytes(mb int64) (uint64, error) { return uint64(mb) << 20, nil }

func cpuTime(d time.Duration) time.Duration { return d }

func buildEnvironment() []string { return nil }
