package wire

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/holdfast-dev/holdfast/edgeagent/scope"
)

// Field numbers of the times that an idle node changes.
const (
	nodeStatus, nodeConditions, conditionHeartbeat = 3, 4, 3
	leaseSpec, leaseRenewal                        = 2, 4
)

// protoItem reads an object without its envelope.
func protoItem(raw []byte, n names) (scope.Item, error) {
	w := protoWalk{status: n.isStatus()}
	w.hash.start()
	if err := w.root(raw, n.heartbeat()); err != nil {
		return scope.Item{}, err
	}
	return w.meta.item(n, scope.Protobuf, raw, w.hash.sum()), nil
}

// protoWalk finds an object's metadata and hashes what is its essence. Messages are hashed without their lengths, which change
// with what is left out, and end in a mark that no field begins with.
type protoWalk struct {
	status bool
	meta   metadata
	hash   essence
}

func (w *protoWalk) root(b []byte, beats heartbeat) error {
	f := message(b)
	for f.next() {
		switch {
		case f.num == objectMeta && !w.status:
			if inner := f.text(); f.err == nil {
				f.err = w.metadata(inner)
			}
		case f.typ != protowire.BytesType:
			w.hash.add(f.all())
		case f.num == nodeStatus && beats == conditions:
			f.err = w.nodeStatus(f.bytes)
		case f.num == leaseSpec && beats == renewal:
			f.err = w.without(f.bytes, leaseRenewal)
		default:
			w.hash.add(f.all())
		}
	}
	return f.err
}

func (w *protoWalk) metadata(b []byte) error {
	w.hash.mark("metadata")
	f := message(b)
	for f.next() {
		switch f.num {
		case metaVersion:
			w.meta.version = f.text()
			continue
		case metaManaged:
			continue
		case metaName:
			w.meta.name = f.text()
		case metaNamespace:
			w.meta.namespace = f.text()
		case metaUID:
			w.meta.uid = f.text()
		}
		w.hash.add(f.all())
	}
	w.hash.mark("\x00")
	return f.err
}

func (w *protoWalk) nodeStatus(b []byte) error {
	w.hash.mark("status")
	f := message(b)
	for f.next() {
		if f.num == nodeConditions && f.typ == protowire.BytesType {
			f.err = w.without(f.bytes, conditionHeartbeat)
			continue
		}
		w.hash.add(f.all())
	}
	w.hash.mark("\x00")
	return f.err
}

// without hashes a message but for one field.
func (w *protoWalk) without(b []byte, num protowire.Number) error {
	w.hash.mark("part")
	f := message(b)
	for f.next() {
		if f.num != num {
			w.hash.add(f.all())
		}
	}
	w.hash.mark("\x00")
	return f.err
}
