package pack

import (
	"bytes"
	"errors"
	"hash"
	"strconv"

	"github.com/pjbgf/sha1cd"
)

// errCollision is for objects made to collide: nobody has one by accident.
var errCollision = errors.New("an object is made to have the SHA-1 of another (a collision attack)")

// newHash begins an object's hash.
func newHash(kind Kind, size int64) sha1cd.CollisionResistantHash {
	h := sha1cd.New().(sha1cd.CollisionResistantHash)
	writeHead(h, kind, size)
	return h
}

func writeHead(h hash.Hash, kind Kind, size int64) {
	var buf [32]byte
	p := append(buf[:0], kind.String()...)
	p = append(p, ' ')
	p = strconv.AppendInt(p, size, 10)
	h.Write(append(p, 0))
}

// finish gives the id, unless the bytes are part of a collision.
func finish(h sha1cd.CollisionResistantHash) (ID, error) {
	var id ID
	if _, collides := h.CollisionResistantSum(id[:0]); collides {
		return ID{}, errCollision
	}
	return id, nil
}

// Hash gives an object's id.
func Hash(kind Kind, raw []byte) (ID, error) {
	h := newHash(kind, int64(len(raw)))
	h.Write(raw)
	return finish(h)
}

func compareIDs(a, b ID) int { return bytes.Compare(a[:], b[:]) }
