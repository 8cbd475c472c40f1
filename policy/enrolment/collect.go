package enrolment

import (
	"cmp"
	"maps"
	"slices"
)

// Report is what a node, or someone in its name, says of its keys. It proves nothing by itself.
type Report struct {
	Node   string
	Proofs []Proof
}

// Refused is a report that was not believed.
type Refused struct {
	Node string
	Err  error
}

// claim is a change that one report proves, and the keys that its proofs pass through.
type claim struct {
	change Change
	passed []Fingerprint
}

func (c claim) key() Fingerprint { return c.change.Keys[len(c.change.Keys)-1] }

// Collect says what many reports change in the fleet repo, and which were refused, both by node. A key belongs to one node, and a node
// that shows two keys by one right gets neither: a person has to look. A report that proves nothing stands in no other's way. The outcome
// does not depend on the order of the reports.
func Collect(fleet string, known map[string]Known, reports []Report) (changes []Change, refused []Refused) {
	claims := map[string][]claim{}
	for _, r := range reports {
		c, err := claimOf(fleet, known, r)
		switch {
		case err != nil:
			refused = append(refused, Refused{r.Node, err})
		case c != nil:
			claims[r.Node] = append(claims[r.Node], *c)
		}
	}
	holders := holdersOf(known, claims)
	for _, node := range slices.Sorted(maps.Keys(claims)) {
		c, err := settle(claims[node])
		if err == nil {
			err = taken(node, c, holders)
		}
		if err != nil {
			refused = append(refused, Refused{node, err})
			continue
		}
		changes = append(changes, c)
	}
	slices.SortFunc(refused, func(a, b Refused) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Err.Error(), b.Err.Error()))
	})
	return changes, refused
}

func claimOf(fleet string, known map[string]Known, r Report) (*claim, error) {
	k, ok := known[r.Node]
	if !ok {
		return nil, refuse(UnknownNode, "the fleet repo names no node %q", shown(r.Node))
	}
	change, err := Verify(fleet, r.Node, k, r.Proofs)
	if change == nil {
		return nil, err
	}
	c := claim{change: *change}
	for _, p := range r.Proofs {
		c.passed = append(c.passed, p.Key.Fingerprint())
	}
	return &c, nil
}

// settle gives the one change of a node's claims: the one that goes on from all others.
func settle(claims []claim) (Change, error) {
	claims = slices.SortedFunc(slices.Values(claims), func(a, b claim) int {
		return cmp.Or(cmp.Compare(len(b.passed), len(a.passed)), slices.Compare(a.fingerprints(), b.fingerprints()))
	})
	longest := claims[0]
	for _, c := range claims[1:] {
		if !slices.Contains(longest.passed, c.key()) {
			return Change{}, refuse(Conflicting, "two proofs that hold give the node different keys, %s and %s: its secret or its key is in two hands", longest.key(), c.key())
		}
	}
	return longest.change, nil
}

func (c claim) fingerprints() []string {
	var names []string
	for _, f := range c.passed {
		names = append(names, f.String())
	}
	return names
}

// holdersOf says which nodes have a key, or would have it.
func holdersOf(known map[string]Known, claims map[string][]claim) map[Fingerprint][]string {
	holders := map[Fingerprint][]string{}
	for node, k := range known {
		for _, f := range k.Keys {
			holders[f] = append(holders[f], node)
		}
	}
	for node, all := range claims {
		for _, c := range all {
			holders[c.key()] = append(holders[c.key()], node)
		}
	}
	return holders
}

// taken refuses a key that is, or would be, another node's.
func taken(node string, c Change, holders map[Fingerprint][]string) error {
	f := c.Keys[len(c.Keys)-1]
	others := slices.DeleteFunc(slices.Sorted(slices.Values(holders[f])), func(holder string) bool { return holder == node })
	if len(others) > 0 {
		return refuse(KeyTaken, "key %s is node %s's: each node makes its own", f, others[0])
	}
	return nil
}
