// Package pack receives, indexes, joins and reads Git packs whose sender is not trusted. go-git reads packs too, but it
// takes a sender's word for how much memory and disk an object needs. Here every size is checked before it is paid for,
// an object enters only if everything it points to is there, and every object that is read is hashed again, with
// collision detection.
//
// The files it writes are Git's own (pack version 2, index version 2), so `git` can read them.
package pack

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// ID is an object's id: the SHA-1 of its kind, size and bytes.
type ID [20]byte

// ParseID reads 40 lower-case hex digits.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return id, fmt.Errorf("%q is not an object id of 40 hex digits", s)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("%q is not an object id of 40 hex digits", s)
	}
	return id, nil
}

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Kind is what an object is, numbered as in packs.
type Kind uint8

// The kinds. The last two occur only inside packs.
const (
	Commit   Kind = 1
	Tree     Kind = 2
	Blob     Kind = 3
	Tag      Kind = 4
	ofsDelta Kind = 6
	refDelta Kind = 7
)

func (k Kind) String() string {
	switch k {
	case Commit:
		return "commit"
	case Tree:
		return "tree"
	case Blob:
		return "blob"
	case Tag:
		return "tag"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

func parseKind(s string) (Kind, bool) {
	for _, k := range []Kind{Commit, Tree, Blob, Tag} {
		if k.String() == s {
			return k, true
		}
	}
	return 0, false
}

// What can be wrong. Match with errors.Is.
var (
	// ErrInvalid: the bytes received are not a pack, or a pack that breaks the rules.
	ErrInvalid = errors.New("invalid pack")
	// ErrTooLarge: a bound would be exceeded.
	ErrTooLarge = errors.New("over a bound")
	// ErrNoRoom: the pack is longer than Bounds.Bytes. It is ErrTooLarge, too.
	ErrNoRoom = fmt.Errorf("%w: there is no room for the pack", ErrTooLarge)
	// ErrDamaged: what is on disk is not what was written.
	ErrDamaged = errors.New("damaged")
	// ErrNotFound: there is no object of that id.
	ErrNotFound = errors.New("no such object")
)

// Bounds are what one pack may cost.
type Bounds struct {
	// Bytes bounds the pack as it is sent and stored.
	Bytes int64
	// ObjectBytes bounds one object, inflated; also each delta and what it makes.
	ObjectBytes int64
	// InflatedBytes bounds the sum of all objects, inflated.
	InflatedBytes int64
	// Objects bounds their number.
	Objects int64
}

// maxChain bounds how many deltas lie on each other. Git itself writes at most 4095, and 50 unless told otherwise.
const maxChain = 4096
