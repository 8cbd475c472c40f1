// Package bolt is what the node's two bbolt files have in common: a damaged file must become an error, and a new one must
// appear whole or not at all. bbolt promises neither: it panics or faults, and its first writing does not survive a power cut.
package bolt

import "errors"

// What can be wrong. Match with errors.Is.
var (
	// ErrInUse: another process has the file open.
	ErrInUse = errors.New("in use by another process")
	// ErrDamaged: the file is not what was written.
	ErrDamaged = errors.New("damaged")
)
