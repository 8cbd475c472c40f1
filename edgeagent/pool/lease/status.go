package lease

import "maps"

// Held says whether this node holds at this moment, and until when at least. Work that must be exact asks before each thing it does.
func (n *Node) Held() (Held, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.core.Held(n.o.Now())
}

// Status is what a person wants to know of a lease.
type Status struct {
	// Holder is who holds as far as this node can tell; "" if nobody does.
	Holder string
	Token  uint64
	// Held says that this node holds, and may work.
	Held bool
	// InUse are the generations whose majorities are needed now; Declared is the plan's.
	InUse    []uint64
	Declared uint64
	// Unreachable are the members that the last message did not reach, and why.
	Unreachable map[string]error
	// Store is what is wrong with the record's disk.
	Store error
}

// Status says how the lease stands.
func (n *Node) Status() Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.o.Now()
	s := Status{Declared: n.core.declared().Generation, Unreachable: maps.Clone(n.failing), Store: n.problem}
	if n.core.base != nil {
		for _, conf := range n.core.inUse(now) {
			s.InUse = append(s.InUse, conf.Generation)
		}
	}
	if held, ok := n.core.Held(now); ok {
		s.Holder, s.Token, s.Held = n.o.Self, held.Token, true
	} else if holder, ok := n.core.holder(now); ok {
		s.Holder, s.Token = holder.Holder, holder.Token
	}
	return s
}

// Peers are the members that this node must be able to reach: while members change, former ones are among them.
func (n *Node) Peers() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.core.Peers()
}
