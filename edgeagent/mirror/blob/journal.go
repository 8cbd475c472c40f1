package blob

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/holdfast-dev/holdfast/edgeagent/mirror/oci"
)

// journal says how much of a partial can be believed. After a kill all of the file can: the kernel has it. After a power cut only the
// first Offset bytes can, which were flushed before the journal was written.
type journal struct {
	Digest oci.Digest `json:"digest"`
	Size   int64      `json:"size"`   // of the whole blob, or -1
	Boot   string     `json:"boot"`   // the boot in which this was written
	Offset int64      `json:"offset"` // bytes on the disk for certain
	State  []byte     `json:"state"`  // the hash of them, to go on with
	// Cut: some of the bytes are older than Boot. They are read once more before the blob is committed, as disks that lose power
	// do not always keep what they promised.
	Cut bool `json:"cut,omitempty"`
}

// journalMost is more than any journal has.
const journalMost = 4 << 10

func parseJournal(d oci.Digest, data []byte) (journal, error) {
	var j journal
	if err := json.Unmarshal(data, &j); err != nil {
		return journal{}, err
	}
	if j.Digest != d || j.Size < -1 || j.Offset < 0 || j.Size >= 0 && j.Offset > j.Size {
		return journal{}, errors.New("its numbers cannot be")
	}
	return j, nil
}

func readJournal(path string, d oci.Digest) (journal, error) {
	f, err := os.Open(path)
	if err != nil {
		return journal{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, journalMost))
	if err != nil {
		return journal{}, err
	}
	j, err := parseJournal(d, data)
	if err != nil {
		return journal{}, fmt.Errorf("read journal %s: %w", path, err)
	}
	return j, nil
}

// stateOf is a hash's state. Both hashes of the standard library have one.
func stateOf(h hash.Hash) ([]byte, error) {
	m, ok := h.(encoding.BinaryMarshaler)
	if !ok {
		return nil, errors.New("this hash has no state that can be kept")
	}
	return m.MarshalBinary()
}

// restore puts a state back. A state of another version of Go does not fit; then the bytes are read again.
func restore(h hash.Hash, state []byte) error {
	m, ok := h.(encoding.BinaryUnmarshaler)
	if !ok {
		return errors.New("this hash has no state that can be restored")
	}
	return m.UnmarshalBinary(state)
}
