package enrolment

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
)

// Kind says who vouches for a key.
type Kind string

const (
	// BySecret: whoever held the node's one-time secret.
	BySecret Kind = "secret"
	// ByPreviousKey: the node, with the key it had.
	ByPreviousKey Kind = "previous-key"
)

// MaxProofBytes bounds a proof's JSON.
const MaxProofBytes = 2 << 10

// Proof says: this node of this fleet has this key. Two signatures stand over all of it: that of who vouches, and that of the key itself,
// so that nobody enrols a key that is another's.
type Proof struct {
	Fleet string    `json:"fleet"`
	Node  string    `json:"node"`
	Kind  Kind      `json:"kind"`
	Key   PublicKey `json:"key"`
	// By is the key that vouches: the secret's, or the node's key before this one.
	By        PublicKey `json:"by"`
	Vouched   signature `json:"vouched"`
	Possessed signature `json:"possessed"`
}

// ProveBySecret makes the proof of a node's first key, or of a new one after a new secret.
func ProveBySecret(s Secret, fleet, node string, key ed25519.PrivateKey) (Proof, error) {
	return prove(BySecret, s.key(), fleet, node, key)
}

// ProveByPrevious makes the proof of a key that follows another.
func ProveByPrevious(previous ed25519.PrivateKey, fleet, node string, key ed25519.PrivateKey) (Proof, error) {
	return prove(ByPreviousKey, previous, fleet, node, key)
}

func prove(kind Kind, by ed25519.PrivateKey, fleet, node string, key ed25519.PrivateKey) (Proof, error) {
	p := Proof{Fleet: fleet, Node: node, Kind: kind, Key: PublicKeyOf(key), By: PublicKeyOf(by)}
	p.Vouched = signature(ed25519.Sign(by, p.statement("vouched")))
	p.Possessed = signature(ed25519.Sign(key, p.statement("possessed")))
	return p, p.Check()
}

// ParseProof reads a proof and checks it as Check does. It is strict: a proof has one meaning.
func ParseProof(data []byte) (Proof, error) {
	if len(data) > MaxProofBytes {
		return Proof{}, refuse(ProofInvalid, "the proof has %d bytes, over the bound of %d", len(data), MaxProofBytes)
	}
	var p Proof
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return Proof{}, refuse(ProofInvalid, "read proof: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Proof{}, refuse(ProofInvalid, "read proof: something follows it")
	}
	return p, p.Check()
}

// Check proves both signatures. It does not say that By may vouch: Verify does.
func (p Proof) Check() error {
	switch {
	case !fleetName.MatchString(p.Fleet):
		return refuse(ProofInvalid, "fleet %q is no fleet's id", shown(p.Fleet))
	case len(p.Node) > maxNode || !nodeName.MatchString(p.Node):
		return refuse(ProofInvalid, "node %q is no node's name", shown(p.Node))
	case p.Kind != BySecret && p.Kind != ByPreviousKey:
		return refuse(ProofInvalid, "kind %q is neither %q nor %q", shown(string(p.Kind)), BySecret, ByPreviousKey)
	case p.Key == p.By:
		return refuse(ProofInvalid, "the key vouches for itself")
	}
	for _, k := range []PublicKey{p.Key, p.By} {
		if err := k.check(); err != nil {
			return refuse(ProofInvalid, "key %s: %v", k, err)
		}
	}
	if !ed25519.Verify(p.By[:], p.statement("vouched"), p.Vouched[:]) {
		return refuse(ProofInvalid, "the signature of %s does not match", p.By)
	}
	if !ed25519.Verify(p.Key[:], p.statement("possessed"), p.Possessed[:]) {
		return refuse(ProofInvalid, "the key %s did not sign for itself", p.Key)
	}
	return nil
}

const maxNode = 253

var (
	fleetName = regexp.MustCompile(`^[a-z0-9]([-.a-z0-9]{0,61}[a-z0-9])?$`)
	nodeName  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// statement is what is signed. Each field has its length before it, so that no two proofs have one statement; the role keeps one
// signature from being shown as the other.
func (p Proof) statement(role string) []byte {
	b := []byte("holdfast: proof of a node's key, version 1\x00")
	for _, field := range []string{role, p.Fleet, p.Node, string(p.Kind), string(p.Key[:]), string(p.By[:])} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
		b = append(b, field...)
	}
	return b
}

// Reasons why a proof is refused. They are stable.
const (
	// ProofInvalid: the proof cannot be read, or a signature in it does not match.
	ProofInvalid = "ProofInvalid"
	// ProofForeign: the proof is of another fleet or node.
	ProofForeign = "ProofForeign"
	// NotVouched: nobody vouches who may: neither the secret that the fleet repo expects, nor the newest key that it lists.
	NotVouched = "NotVouched"
	// KeyTaken: the key is another node's.
	KeyTaken = "KeyTaken"
	// Conflicting: two proofs that both hold give a node different keys: the secret was used twice, or a key is in two hands.
	Conflicting = "Conflicting"
	// UnknownNode: the fleet repo does not name the node.
	UnknownNode = "UnknownNode"
)

// Refusal is why a key is not taken.
type Refusal struct{ Reason, Message string }

func (r *Refusal) Error() string { return r.Message }

// StableReason is Reason.
func (r *Refusal) StableReason() string { return r.Reason }

func refuse(reason, format string, args ...any) error {
	return &Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}
