package pack

import (
	"errors"
	"os"
	"testing"

	"github.com/pjbgf/sha1cd"
)

// TestCollisionIsRefused hashes one half of a published pair of messages with equal SHA-1 ("SHA-1 is a Shambles", 2020).
func TestCollisionIsRefused(t *testing.T) {
	raw, err := os.ReadFile("testdata/sha-mbles-1.bin")
	if err != nil {
		t.Fatal(err)
	}
	h := sha1cd.New().(sha1cd.CollisionResistantHash)
	h.Write(raw)
	if id, err := finish(h); !errors.Is(err, errCollision) {
		t.Fatalf("got %s, %v", id, err)
	}
	if id, err := Hash(Blob, nil); err != nil || id.String() != "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391" {
		t.Fatalf("the empty blob is %s, %v", id, err)
	}
}
