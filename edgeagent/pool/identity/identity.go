package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/holdfast-dev/holdfast/edgeagent/durable"
	"github.com/holdfast-dev/holdfast/policy/enrolment"
)

var (
	// ErrNone says that the node has no key: it was not enrolled with one.
	ErrNone = errors.New("the node has no key of its own yet: enrol it with a one-time secret")
	// ErrExists says that the node has a key already.
	ErrExists = errors.New("the node has a key already")
	// ErrDamaged says that the key is lost. A new machine in the node's place is in the same position.
	ErrDamaged = errors.New("the node's key is lost: unenrol the node and enrol it with a new one-time secret")
	// ErrNotListed says that the key cannot be followed by another before the fleet repo lists it.
	ErrNotListed = errors.New("the fleet repo does not list the node's newest key yet")
)

// Files are where the key lies, and, apart from it, what it is sealed with. Whoever gets one alone has nothing.
type Files struct{ Key, SealingKey string }

// Identity is the node's key, and while it is being changed the next one. It may be used concurrently.
type Identity struct {
	files Files
	fleet string
	node  string
	write func(path string, data []byte) error

	mu sync.Mutex // guards what follows
	// held are the keys, oldest first: one, or two while the fleet repo does not list the second alone.
	held []held
	// listed are the node's keys by the fleet repo.
	listed []Fingerprint
}

// held is a key with the proof of it.
type held struct {
	key   *Key
	proof enrolment.Proof
}

// Make makes the node's first key and proves it with the node's one-time secret. After an error there is no key. It is ErrExists if there is
// one: a node keeps its key.
func Make(files Files, fleet, node string, secret enrolment.Secret) (*Identity, error) {
	if there, err := exists(files.Key); err != nil || there {
		return nil, errors.Join(err, onlyIf(there, fmt.Errorf("%w: %s", ErrExists, files.Key)))
	}
	id := &Identity{files: files, fleet: fleet, node: node, write: durable.WriteFile}
	key, err := generate(node)
	if err != nil {
		return nil, err
	}
	proof, err := enrolment.ProveBySecret(secret, fleet, node, key.private)
	if err != nil {
		return nil, fmt.Errorf("prove the node's key: %w", err)
	}
	if err := id.keep([]held{{key, proof}}); err != nil {
		return nil, err
	}
	return id, nil
}

// Open reads the node's key: ErrNone if it has none, ErrDamaged if it cannot be had back.
func Open(files Files) (*Identity, error) {
	kept, err := read(files)
	if err != nil {
		return nil, err
	}
	id := &Identity{files: files, fleet: kept.Fleet, node: kept.Node, write: durable.WriteFile}
	for _, k := range kept.Keys {
		key, err := newKey(kept.Node, k.Seed)
		if err != nil {
			return nil, err
		}
		if key.public != k.Proof.Key {
			return nil, fmt.Errorf("read %s: %w: a proof is another key's", files.Key, ErrDamaged)
		}
		id.held = append(id.held, held{key, k.Proof})
	}
	return id, nil
}

// Fleet is the fleet that the key was made for.
func (id *Identity) Fleet() string { return id.fleet }

// Node is the node's name.
func (id *Identity) Node() string { return id.node }

// Key is what the node speaks with now: the oldest of its keys that the fleet repo lists, which all members know, whatever plan they have.
func (id *Identity) Key() *Key {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.current()
}

func (id *Identity) current() *Key {
	for _, h := range id.held {
		if slices.Contains(id.listed, h.key.fingerprint) {
			return h.key
		}
	}
	return id.held[0].key
}

// Proofs are what to report, so that the fleet repo can list the node's keys: a chain, oldest first, for enrolment.Verify.
func (id *Identity) Proofs() []enrolment.Proof {
	id.mu.Lock()
	defer id.mu.Unlock()
	var proofs []enrolment.Proof
	for _, h := range id.held {
		proofs = append(proofs, h.proof)
	}
	return proofs
}

// Newest names the newest key, which the fleet repo may not list yet.
func (id *Identity) Newest() Fingerprint {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.held[len(id.held)-1].key.fingerprint
}

// Rotate makes the next key, vouched for by this one. It comes into use once the fleet repo lists it and no older one. After an error
// nothing has changed.
func (id *Identity) Rotate() error {
	id.mu.Lock()
	defer id.mu.Unlock()
	last := id.held[len(id.held)-1].key
	if len(id.held) > 1 || !slices.Contains(id.listed, last.fingerprint) {
		return fmt.Errorf("rotate the key of node %s: %w: %s", id.node, ErrNotListed, last.fingerprint)
	}
	next, err := generate(id.node)
	if err != nil {
		return err
	}
	proof, err := enrolment.ProveByPrevious(last.private, id.fleet, id.node, next.private)
	if err != nil {
		return fmt.Errorf("prove the node's next key: %w", err)
	}
	return id.keep(append(slices.Clone(id.held), held{next, proof}))
}

// Prove proves the newest key anew with a one-time secret, for a fleet repo that lost it. Keys before it are forgotten.
func (id *Identity) Prove(secret enrolment.Secret) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	last := id.held[len(id.held)-1].key
	proof, err := enrolment.ProveBySecret(secret, id.fleet, id.node, last.private)
	if err != nil {
		return fmt.Errorf("prove the node's key: %w", err)
	}
	return id.keep([]held{{last, proof}})
}

// SetListed says which keys the fleet repo lists for the node. A key that a listed one has followed is forgotten once it is no longer
// listed itself. It writes only then; after an error what is listed counts all the same, and the old key is forgotten the next time.
func (id *Identity) SetListed(keys []Fingerprint) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	id.listed = slices.Clone(keys)
	for i, h := range id.held {
		if i > 0 && h.key == id.current() {
			return id.keep(slices.Clone(id.held[i:]))
		}
	}
	return nil
}

// keep writes the keys, then goes on with them. The caller holds mu, or is alone.
func (id *Identity) keep(all []held) error {
	file := kept{Fleet: id.fleet, Node: id.node}
	for _, h := range all {
		file.Keys = append(file.Keys, keptKey{Seed: h.key.private.Seed(), Proof: h.proof})
	}
	if err := id.store(file); err != nil {
		return err
	}
	id.held = all
	return nil
}

func generate(node string) (*Key, error) {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	return newKey(node, seed)
}

func onlyIf(holds bool, err error) error {
	if holds {
		return err
	}
	return nil
}
