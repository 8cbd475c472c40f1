package trust

import (
	"fmt"
	"path"
	"strings"
	"time"
)

// usable tells why the key may not sign in the namespace at that time, or gives nil. The bounds are OpenSSH's: both ends
// are included.
func (s *Signer) usable(namespace string, at time.Time) error {
	switch {
	case !matchNamespaces(s.Namespaces, namespace):
		return fmt.Errorf("may not sign in namespace %q", namespace)
	case !s.ValidAfter.IsZero() && at.Before(s.ValidAfter):
		return fmt.Errorf("is valid after %s, and this is of %s", stamp(s.ValidAfter), stamp(at))
	case !s.ValidBefore.IsZero() && at.After(s.ValidBefore):
		return fmt.Errorf("is valid before %s, and this is of %s", stamp(s.ValidBefore), stamp(at))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// matchNamespaces matches as OpenSSH's pattern lists do: "!" refuses, "*" and "?" are wildcards, and no list allows all.
func matchNamespaces(patterns []string, namespace string) bool {
	matched := len(patterns) == 0
	for _, p := range patterns {
		name, negated := strings.CutPrefix(p, "!")
		// path.Match knows more than OpenSSH: its brackets and backslashes are plain characters there.
		ok, err := path.Match(strings.NewReplacer(`\`, `\\`, `[`, `\[`).Replace(name), namespace)
		if err != nil || !ok {
			continue
		}
		if negated {
			return false
		}
		matched = true
	}
	return matched
}
