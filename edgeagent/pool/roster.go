package pool

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/holdfast-dev/holdfast/edgeagent/pool/identity"
)

// Bounds of what a plan may say of a pool.
const (
	maxMembers   = 1000
	maxKeys      = 4
	maxAddresses = 8
)

// Member is a node of the pool, as the signed fleet repo has it.
type Member struct {
	Name string
	// Keys are the fingerprints of the node's keys, the newest last. None means that the node is not enrolled yet: it cannot be reached and
	// is not let in.
	Keys []identity.Fingerprint
	// Addresses are where the node listens, as "host:port", if that is written down. They are tried first.
	Addresses []string
}

// roster is the pool's members. It does not change.
type roster struct {
	byName map[string]Member
	byKey  map[identity.Fingerprint]string
}

// newRoster checks the members: one who is taken for another is worse than a plan that is refused.
func newRoster(members []Member) (*roster, error) {
	if len(members) > maxMembers {
		return nil, fmt.Errorf("%d members, over the bound of %d", len(members), maxMembers)
	}
	r := &roster{byName: map[string]Member{}, byKey: map[identity.Fingerprint]string{}}
	var errs []error
	for _, m := range members {
		if _, twice := r.byName[m.Name]; twice || m.Name == "" {
			errs = append(errs, fmt.Errorf("member %q is named twice, or not at all", m.Name))
		}
		if len(m.Keys) > maxKeys || len(m.Addresses) > maxAddresses {
			errs = append(errs, fmt.Errorf("member %s has over %d keys or %d addresses", m.Name, maxKeys, maxAddresses))
		}
		for _, key := range m.Keys {
			if other, taken := r.byKey[key]; key.IsZero() || taken && other != m.Name {
				errs = append(errs, fmt.Errorf("member %s: key %s is no key, or member %s's", m.Name, key, other))
			}
			r.byKey[key] = m.Name
		}
		for _, address := range m.Addresses {
			errs = append(errs, checkAddress(m.Name, address))
		}
		m.Keys, m.Addresses = slices.Clone(m.Keys), slices.Clone(m.Addresses)
		r.byName[m.Name] = m
	}
	return r, errors.Join(errs...)
}

func checkAddress(member, address string) error {
	host, port, err := net.SplitHostPort(address)
	if n, bad := strconv.ParseUint(port, 10, 16); err == nil && (bad != nil || n == 0 || host == "") {
		err = errors.New("want host:port")
	}
	if err != nil {
		return fmt.Errorf("member %s: address %q: %w", member, address, err)
	}
	return nil
}
