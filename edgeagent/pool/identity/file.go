package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/holdfast-dev/holdfast/edgeagent/seal"
	"github.com/holdfast-dev/holdfast/policy/enrolment"
)

const (
	// fileHead tells the file from others, and its form from later ones.
	fileHead = "holdfast node key 1\n"
	// maxFile bounds the file: two keys and their proofs are 2 KiB.
	maxFile = 16 << 10
	// maxHeld is how many keys a node has at a time.
	maxHeld = 2
	purpose = "holdfast identity: seal"
	bucket  = "identity"
)

// kept is what is sealed in the file.
type kept struct {
	Fleet string    `json:"fleet"`
	Node  string    `json:"node"`
	Keys  []keptKey `json:"keys"`
}

type keptKey struct {
	Seed  []byte          `json:"seed"`
	Proof enrolment.Proof `json:"proof"`
}

// store seals and writes the keys. The sealing key is made first, so that no key is ever on disk that cannot be opened.
func (id *Identity) store(k kept) error {
	sealing, err := id.sealingKey()
	if err != nil {
		return err
	}
	s, err := seal.New(sealing, purpose)
	if err != nil {
		return err
	}
	body, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("encode the node's key: %w", err)
	}
	if err := id.write(id.files.Key, s.Seal([]byte(fileHead), bucket, nil, body)); err != nil {
		return fmt.Errorf("write the node's key %s: %w", id.files.Key, err)
	}
	return nil
}

// sealingKey reads the sealing key, or makes one where nothing was sealed yet.
func (id *Identity) sealingKey() ([]byte, error) {
	key, err := readSealingKey(id.files.SealingKey)
	if err == nil {
		return key, nil
	}
	if len(id.held) > 0 || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	key = make([]byte, seal.KeySize)
	rand.Read(key)
	if err := id.write(id.files.SealingKey, key); err != nil {
		return nil, fmt.Errorf("write sealing key %s: %w", id.files.SealingKey, err)
	}
	return key, nil
}

func readSealingKey(path string) ([]byte, error) {
	key, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("read sealing key: %w", err)
	}
	if len(key) != seal.KeySize {
		return nil, fmt.Errorf("read sealing key %s: %w: it has %d bytes, not %d", path, ErrDamaged, len(key), seal.KeySize)
	}
	return key, nil
}

// read opens the file.
func read(files Files) (kept, error) {
	raw, err := readBounded(files.Key)
	if errors.Is(err, fs.ErrNotExist) {
		return kept{}, fmt.Errorf("%w (%s)", ErrNone, files.Key)
	}
	if err != nil {
		return kept{}, fmt.Errorf("read the node's key: %w", err)
	}
	sealing, err := readSealingKey(files.SealingKey)
	if errors.Is(err, fs.ErrNotExist) {
		return kept{}, fmt.Errorf("read %s: %w: its sealing key %s is gone", files.Key, ErrDamaged, files.SealingKey)
	}
	if err != nil {
		return kept{}, err
	}
	k, err := open(sealing, raw)
	if err != nil {
		return kept{}, fmt.Errorf("read %s: %w: %w", files.Key, ErrDamaged, err)
	}
	return k, nil
}

// open opens what store sealed.
func open(sealing, raw []byte) (kept, error) {
	sealed, ok := bytes.CutPrefix(raw, []byte(fileHead))
	if !ok {
		return kept{}, errors.New("it is no file of a node's key")
	}
	s, err := seal.New(sealing, purpose)
	if err != nil {
		return kept{}, err
	}
	body, err := s.Open(bucket, nil, sealed)
	if err != nil {
		return kept{}, err
	}
	return decode(body)
}

// decode reads what was sealed. It was proved to be ours, and is checked all the same: a key of another length would panic.
func decode(body []byte) (kept, error) {
	var k kept
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&k); err != nil {
		return kept{}, err
	}
	if len(k.Keys) < 1 || len(k.Keys) > maxHeld {
		return kept{}, fmt.Errorf("it holds %d keys", len(k.Keys))
	}
	for _, key := range k.Keys {
		if len(key.Seed) != ed25519.SeedSize {
			return kept{}, fmt.Errorf("a key has %d bytes", len(key.Seed))
		}
		if key.Proof.Fleet != k.Fleet || key.Proof.Node != k.Node {
			return kept{}, errors.New("a proof is for another fleet or node")
		}
		if err := key.Proof.Check(); err != nil {
			return kept{}, err
		}
	}
	return k, nil
}

// readBounded reads a small file that only its owner may read, and sees to that: it may have been restored from a backup.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := f.Chmod(0o600); err != nil {
			return nil, fmt.Errorf("protect %s: %w", path, err)
		}
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("read %s: over %d bytes", path, maxFile)
	}
	return raw, err
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
