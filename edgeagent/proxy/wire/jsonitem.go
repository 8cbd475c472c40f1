package wire

import "github.com/holdfast-dev/holdfast/edgeagent/scope"

// jsonItem reads the object at b[i] and gives the index after it. n is for objects that leave apiVersion or kind out, seen is what
// the object before this one was.
func jsonItem(b []byte, i int, n, seen names) (scope.Item, int, error) {
	w := jsonWalk{b: b, names: n, seen: seen}
	w.hash.start()
	end, err := w.root(i)
	if err != nil {
		return scope.Item{}, end, err
	}
	return w.meta.item(w.names, scope.JSON, b[i:end:end], w.hash.sum()), end, nil
}

// jsonWalk finds an object's metadata and hashes what is its essence, in one run that also checks the syntax.
type jsonWalk struct {
	b     []byte
	names names
	seen  names
	meta  metadata
	hash  essence
}

// root walks the object itself. apiVersion and kind are not hashed: a list leaves them out, a watch does not.
func (w *jsonWalk) root(i int) (int, error) {
	m := object(w.b, i)
	for m.next() {
		switch string(m.key) {
		case "apiVersion":
			w.names = w.names.said(w.seen, m.text(), nil)
		case "kind":
			w.names = w.names.said(w.seen, nil, m.text())
		case "metadata":
			w.metadata(&m)
		case "spec":
			if w.names.heartbeat() == renewal && w.b[m.i] == '{' {
				w.without(&m, "renewTime")
				continue
			}
			w.keep(&m)
		case "status":
			if w.names.heartbeat() == conditions && w.b[m.i] == '{' {
				w.status(&m)
				continue
			}
			w.keep(&m)
		default:
			w.keep(&m)
		}
	}
	return m.i, m.err
}

// keep reads a member that belongs to the essence.
func (w *jsonWalk) keep(m *members) {
	m.skip()
	w.hash.add(w.b[m.start:m.i])
	w.hash.mark(",")
}

// enter begins a member whose value is an object that belongs to the essence in part.
func (w *jsonWalk) enter(m *members) members {
	w.hash.add(m.key)
	w.hash.mark("{")
	return object(w.b, m.i)
}

// leave ends it.
func (w *jsonWalk) leave(m *members, inner members) {
	w.hash.mark("}")
	m.i, m.err = inner.i, inner.err
}

func (w *jsonWalk) metadata(m *members) {
	if m.isNull() {
		m.skip()
		return
	}
	inner := w.enter(m)
	for inner.next() {
		var found *[]byte
		switch string(inner.key) {
		case "resourceVersion":
			w.meta.version = inner.text()
			continue
		case "managedFields":
			inner.skip()
			continue
		case "name":
			found = &w.meta.name
		case "namespace":
			found = &w.meta.namespace
		case "uid":
			found = &w.meta.uid
		default:
			w.keep(&inner)
			continue
		}
		*found = inner.text()
		w.hash.add(w.b[inner.start:inner.i])
		w.hash.mark(",")
	}
	w.leave(m, inner)
}

// without walks an object and leaves one member out of the essence.
func (w *jsonWalk) without(m *members, name string) {
	inner := w.enter(m)
	for inner.next() {
		if string(inner.key) == name {
			inner.skip()
			continue
		}
		w.keep(&inner)
	}
	w.leave(m, inner)
}

// status walks a Node's status.
func (w *jsonWalk) status(m *members) {
	inner := w.enter(m)
	for inner.next() {
		if string(inner.key) == "conditions" && w.b[inner.i] == '[' {
			w.conditions(&inner)
			continue
		}
		w.keep(&inner)
	}
	w.leave(m, inner)
}

func (w *jsonWalk) conditions(m *members) {
	w.hash.add(m.key)
	list := array(w.b, m.i)
	for list.next() {
		if w.b[list.i] != '{' {
			start := list.i
			list.skip()
			w.hash.add(w.b[start:list.i])
			w.hash.mark(",")
			continue
		}
		one := members{b: w.b, i: list.i, start: list.i}
		w.without(&one, "lastHeartbeatTime")
		list.i, list.err = one.i, one.err
	}
	m.i, m.err = list.i, list.err
}
