package lease

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
)

// Store keeps one node's record of one lease. It is used by one caller at a time.
type Store interface {
	// Load gives the record, or nil if there is none yet.
	Load() (*Record, error)
	// Save returns when the record is on disk, also after a power cut.
	Save(Record) error
}

// ErrDamaged is a record that cannot be believed. A voter that went on without it could grant what it has granted already.
var ErrDamaged = errors.New("the record of the lease is damaged; enrol this node anew, so that it votes under a new name")

// File is a Store in a file of its own.
type File string

type fileRecord struct {
	SHA256 string          `json:"sha256"`
	Record json.RawMessage `json:"record"`
}

// Load implements Store.
func (f File) Load() (*Record, error) {
	b, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the record of a lease: %w", err)
	}
	record, err := decodeRecord(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w: %w", string(f), ErrDamaged, err)
	}
	return record, nil
}

func decodeRecord(b []byte) (*Record, error) {
	var file fileRecord
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(file.Record); hex.EncodeToString(sum[:]) != file.SHA256 {
		return nil, errors.New("its checksum does not match")
	}
	var record Record
	d := json.NewDecoder(bytes.NewReader(file.Record))
	d.DisallowUnknownFields()
	if err := d.Decode(&record); err != nil {
		return nil, err
	}
	return &record, record.check()
}

// Save implements Store.
func (f File) Save(r Record) error {
	record, err := json.Marshal(r)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(record)
	b, err := json.Marshal(fileRecord{SHA256: hex.EncodeToString(sum[:]), Record: record})
	if err != nil {
		return err
	}
	if err := durable.WriteFile(string(f), b); err != nil {
		return fmt.Errorf("write the record of a lease: %w", err)
	}
	return nil
}

func (r Record) check() error {
	if len(r.Grants) > 2 {
		return fmt.Errorf("it has %d grants; there are at most 2", len(r.Grants))
	}
	for _, g := range r.Grants {
		if g.TTL <= 0 || g.TTL > MaxTTL {
			return fmt.Errorf("a grant to %q is for %v", g.Holder, g.TTL)
		}
	}
	if r.Base == nil {
		return errors.New("it has no configuration")
	}
	last := uint64(0)
	for _, c := range append([]Configuration{*r.Base}, r.Started...) {
		if err := c.Validate(); err != nil {
			return err
		}
		if c.Generation <= last {
			return fmt.Errorf("generation %d comes after %d", c.Generation, last)
		}
		last = c.Generation
	}
	return nil
}
