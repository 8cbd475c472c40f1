//go:build !linux

package bolt

import "os"

func prefetch(*os.File) {}
