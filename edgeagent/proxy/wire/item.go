package wire

import (
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// names are an object's apiVersion and kind.
type names struct{ apiVersion, kind string }

// said gives what an object says itself in place of what n has. A string that n or seen has already is not made again.
func (n names) said(seen names, apiVersion, kind []byte) names {
	n.apiVersion = known(apiVersion, n.apiVersion, seen.apiVersion)
	n.kind = known(kind, n.kind, seen.kind)
	return n
}

func known(text []byte, otherwise, seen string) string {
	switch {
	case len(text) == 0 || string(text) == otherwise:
		return otherwise
	case string(text) == seen:
		return seen
	}
	return string(text)
}

// isStatus tells whether the object is a metav1.Status, whose metadata is a list's.
func (n names) isStatus() bool { return n.kind == "Status" && n.apiVersion == "v1" }

// heartbeat says which times of a kind change though nothing else does.
type heartbeat uint8

const (
	none heartbeat = iota
	// conditions: status.conditions[].lastHeartbeatTime of a Node.
	conditions
	// renewal: spec.renewTime of a Lease.
	renewal
)

func (n names) heartbeat() heartbeat {
	switch {
	case n.kind == "Node" && n.apiVersion == "v1":
		return conditions
	case n.kind == "Lease" && strings.HasPrefix(n.apiVersion, "coordination.k8s.io/"):
		return renewal
	}
	return none
}

// metadata is what an item's walk finds in the object's metadata: parts of its bytes.
type metadata struct{ namespace, name, uid, version []byte }

// item makes the item. Its four strings share one piece of memory that is not the object's, so that a name keeps no object alive.
func (m metadata) item(n names, encoding scope.Encoding, raw []byte, essence uint64) scope.Item {
	var room [256]byte
	all := append(room[:0], m.namespace...)
	all = append(append(append(all, m.name...), m.uid...), m.version...)
	text := string(all)
	cut := func(part []byte) string {
		s := text[:len(part)]
		text = text[len(part):]
		return s
	}
	return scope.Item{
		Namespace: cut(m.namespace), Name: cut(m.name), UID: cut(m.uid), Version: cut(m.version),
		APIVersion: n.apiVersion, Kind: n.kind, Encoding: encoding, Raw: raw, Essence: essence,
	}
}

// essence hashes what walks give it. Digests are the same in every process: they are compared with stored ones.
type essence struct{ digest xxhash.Digest }

func (e *essence) start() { e.digest.Reset() }

func (e *essence) add(b []byte) { _, _ = e.digest.Write(b) } // its Write cannot fail

// mark separates parts, so that two ways to divide the same bytes do not hash alike.
func (e *essence) mark(s string) { _, _ = e.digest.WriteString(s) }

// sum is never 0, which means that the essence is not known.
func (e *essence) sum() uint64 {
	return max(e.digest.Sum64(), 1)
}
