package enrolment

import "slices"

// MaxProofs bounds how many keys a node may have had since the fleet repo heard of it last.
const MaxProofs = 16

// Known is what the signed fleet repo says of a node.
type Known struct {
	// Secret is the public key of the node's one-time secret, zero if none is open.
	Secret PublicKey
	// Keys are the fingerprints of the node's keys, the newest last. Only the newest may vouch for the next.
	Keys []Fingerprint
}

// Change is what to write into the fleet repo for a node.
type Change struct {
	Node string
	// Keys are the fingerprints from now on, the newest last. A key that followed another stands behind it: until all nodes have the new
	// plan both are needed.
	Keys []Fingerprint
	// SecretUsed says that the one-time secret is to be taken out: it enrolled this key.
	SecretUsed bool
}

// Verify says what a node's proofs change. They are a chain, oldest first: the first that counts is vouched for by the secret or by the
// newest key that is known, and each next by the key before it. The change is nil if the node's newest key is known already. What was
// proved before, and spent, proves nothing again: its secret is gone from the fleet repo, its key is no longer the newest.
func Verify(fleet, node string, known Known, proofs []Proof) (*Change, error) {
	if len(proofs) == 0 {
		return nil, nil
	}
	if len(proofs) > MaxProofs {
		return nil, refuse(ProofInvalid, "%d proofs, over the bound of %d", len(proofs), MaxProofs)
	}
	for _, p := range proofs {
		if p.Fleet != fleet || p.Node != node {
			return nil, refuse(ProofForeign, "the proof is for node %q of fleet %q, not for node %q of fleet %q", shown(p.Node), shown(p.Fleet), node, fleet)
		}
		if err := p.Check(); err != nil {
			return nil, err
		}
	}
	newest := proofs[len(proofs)-1].Key.Fingerprint()
	if slices.Contains(known.Keys, newest) {
		return nil, nil
	}
	first := slices.IndexFunc(proofs, known.vouched)
	if first < 0 {
		return nil, notVouched(known, proofs[0])
	}
	chain := proofs[first:]
	for i, p := range chain[1:] {
		if p.Kind != ByPreviousKey || p.By != chain[i].Key {
			return nil, refuse(NotVouched, "key %s is not vouched for by %s, the key before it", p.Key.Fingerprint(), chain[i].Key.Fingerprint())
		}
	}
	c := &Change{Node: node, Keys: []Fingerprint{newest}, SecretUsed: chain[0].Kind == BySecret}
	if !c.SecretUsed {
		c.Keys = []Fingerprint{known.Keys[len(known.Keys)-1], newest}
	}
	return c, nil
}

// vouched tells whether a proof is by someone who may vouch, as far as the fleet repo knows.
func (k Known) vouched(p Proof) bool {
	switch p.Kind {
	case BySecret:
		return !k.Secret.IsZero() && p.By == k.Secret
	case ByPreviousKey:
		return len(k.Keys) > 0 && p.By.Fingerprint() == k.Keys[len(k.Keys)-1]
	}
	return false
}

func notVouched(known Known, p Proof) error {
	switch {
	case p.Kind == BySecret && known.Secret.IsZero():
		return refuse(NotVouched, "the key is vouched for by a secret, and none is open for the node: it was used, or never given")
	case p.Kind == BySecret:
		return refuse(NotVouched, "the key is vouched for by another secret than the one that the fleet repo expects (%s)", known.Secret)
	case len(known.Keys) == 0:
		return refuse(NotVouched, "the key is vouched for by an earlier key, and the fleet repo lists none for the node: enrol it with a secret")
	}
	return refuse(NotVouched, "the key is vouched for by %s, and the newest key that the fleet repo lists is %s", p.By.Fingerprint(), known.Keys[len(known.Keys)-1])
}
