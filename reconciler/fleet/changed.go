package fleet

// Changed gives, of the pools of two trees, the names of those that may differ: whose own files, or whose root, are not
// the same. It evaluates nothing.
func Changed(old, new Tree) (inOld, inNew []string, err error) {
	before, err := fingerprints(old)
	if err != nil {
		return nil, nil, err
	}
	after, err := fingerprints(new)
	if err != nil {
		return nil, nil, err
	}
	return before.without(after), after.without(before), nil
}

// fingerprint names everything a pool's evaluation reads.
type fingerprint struct{ pool, key string }

type fingerprintList []fingerprint

func fingerprints(t Tree) (fingerprintList, error) {
	names, err := PoolNames(t)
	if err != nil {
		return nil, err
	}
	root, err := shared(t)
	if err != nil {
		return nil, err
	}
	out := make(fingerprintList, 0, len(names))
	for _, name := range names {
		g, err := own(t, name)
		if err != nil {
			return nil, err
		}
		var m *Memo
		out = append(out, fingerprint{pool: name, key: m.key("", name, root, g)})
	}
	return out, nil
}

// without gives the names of the pools that other does not have as they are here.
func (l fingerprintList) without(other fingerprintList) []string {
	known := make(map[fingerprint]bool, len(other))
	for _, f := range other {
		known[f] = true
	}
	var out []string
	for _, f := range l {
		if !known[f] {
			out = append(out, f.pool)
		}
	}
	return out
}
