package blob

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// What can be wrong. Match with errors.Is.
var (
	// ErrNotFound: the blob is not in the store, and nobody is writing it.
	ErrNotFound = errors.New("not in the store")
	// ErrExists: the blob is in the store already; there is nothing to write.
	ErrExists = errors.New("in the store already")
	// ErrBusy: another writer has the blob. Follow it.
	ErrBusy = errors.New("being written already")
	// ErrIncomplete: bytes are missing. The writer goes on.
	ErrIncomplete = errors.New("incomplete")
	// ErrSize: the size differs from the one that was expected before.
	ErrSize = errors.New("another size than expected before")
	// ErrNoRoom: the quota, the reserve or the disk leaves no room. What was written stays, for later.
	ErrNoRoom = errors.New("no room")
	// ErrNeverFits: larger than the quota; no collection can help.
	ErrNeverFits = errors.New("larger than the quota")
	// ErrInUse: another process has the folder open.
	ErrInUse = errors.New("in use by another process")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store is closed")
	// ErrNotManifest: the bytes are what their digest says, but they are no manifest that can be read.
	ErrNotManifest = errors.New("no manifest")
)

// RoomError says how much room is missing for a blob. It matches ErrNoRoom, and ErrNeverFits where that is so.
type RoomError struct {
	Digest  oci.Digest // zero when room was asked for nothing in particular
	Need    int64      // bytes that were to be written
	Short   int64      // bytes that are missing
	Quota   int64
	Reserve int64
	never   bool
}

func (e *RoomError) Error() string {
	what := "blobs"
	if !e.Digest.IsZero() {
		what = e.Digest.String()
	}
	if e.never {
		return fmt.Sprintf("%s has %d bytes and the mirror's quota is %d: raise the quota", what, e.Need, e.Quota)
	}
	return fmt.Sprintf("no room for %d bytes of %s: %d are missing, with a quota of %d and a reserve of %d, and all else is in use; raise the quota or free disk space",
		e.Need, what, e.Short, e.Quota, e.Reserve)
}

// Is makes a RoomError match its sentinels.
func (e *RoomError) Is(target error) bool {
	return target == ErrNoRoom || e.never && target == ErrNeverFits
}

// MismatchError says that what was written is not what its digest says. The bytes are in quarantine, or gone if they were too many.
type MismatchError struct {
	Digest  oci.Digest
	Got     oci.Digest // zero if there were more bytes than expected
	Size    int64      // expected, or -1
	GotSize int64
}

func (e *MismatchError) Error() string {
	if e.Got.IsZero() {
		return fmt.Sprintf("%s has %d bytes, and at least %d came: its source sends something else", e.Digest, e.Size, e.GotSize)
	}
	return fmt.Sprintf("the %d bytes that came for %s have the digest %s: its source sends something else", e.GotSize, e.Digest, e.Got)
}

// CorruptError says that a blob of the store is not what was written. It is in quarantine and has to be fetched again.
type CorruptError struct {
	Digest oci.Digest
	Got    oci.Digest // zero if it could not be read
	Err    error      // why it could not be read
}

func (e *CorruptError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s cannot be read any more: %v; fetch it again, and look at the disk", e.Digest, e.Err)
	}
	return fmt.Sprintf("%s is damaged on the disk: it has the digest %s; fetch it again, and look at the disk", e.Digest, e.Got)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// diskError marks what a full disk, or a user's disk quota, says.
func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w on the disk: %w", ErrNoRoom, err)
	}
	return err
}
