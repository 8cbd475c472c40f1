package lease

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Transport carries messages between members. Implementations authenticate both ends and are safe for concurrent use.
type Transport interface {
	// Send delivers a message to a member. The member may answer with one: it is nil if it does not.
	Send(ctx context.Context, to string, m Message) (*Message, error)
}

// Options say how a node takes part in a lease. Zero values have defaults, but for Self, Store, Transport and Work.
type Options struct {
	// Lease is the lease's name, for the log.
	Lease string
	// Self is the name under which this node votes. It must be another one if the node has lost its Store.
	Self string
	// TTL is how long a voter is bound by a grant, and so nearly how long a dead holder is waited for. The default is 4 s.
	TTL time.Duration
	// Drift is how much faster one node's clock may run than another's, as a fraction. The default, 0.2, covers a clock that is being
	// corrected as fast as chrony does it beside one that is corrected the other way.
	Drift float64
	// Stop is how long Work may need to stop. The default is TTL/8.
	Stop time.Duration
	// Work runs while this node holds the lease. It must return soon, within Stop, when its context ends; the lease moves on only then or when
	// Held.Until has passed. If it returns before, the lease is given up, and another node's turn comes first.
	Work      func(ctx context.Context, held Held)
	Store     Store
	Transport Transport
	Now       func() time.Duration
	Rand      *rand.Rand
	Log       *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	if o.Store == nil || o.Transport == nil || o.Work == nil {
		return o, errors.New("lease: Store, Transport and Work are needed")
	}
	if o.TTL == 0 {
		o.TTL = 4 * time.Second
	}
	if o.Drift == 0 {
		o.Drift = 0.2
	}
	if o.Stop == 0 {
		o.Stop = o.TTL / 8
	}
	if o.Now == nil {
		o.Now = Clock()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		var seed [16]byte
		crand.Read(seed[:]) // never fails
		o.Rand = rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed[:8]), binary.LittleEndian.Uint64(seed[8:])))
	}
	return o, nil
}

// Node takes part in one lease: it votes, and holds when it is its turn. Its methods are safe for concurrent use.
type Node struct {
	o    Options
	wake chan struct{}
	wg   sync.WaitGroup // calls and work that run

	mu       sync.Mutex // guards all below; also held while the store writes
	core     *Core
	work     *work
	closed   bool
	problem  error // of the store
	inFlight map[string]int
	failing  map[string]error
}

// maxInFlight bounds the messages on their way to one member; what is more is lost.
const maxInFlight = 4

// New reads the record and gives a node that votes as soon as it knows its configurations. It holds nothing before Run.
func New(o Options) (*Node, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	record, err := o.Store.Load()
	if err != nil {
		return nil, fmt.Errorf("open lease %s: %w", o.Lease, err)
	}
	core, err := newCore(Params{Self: o.Self, TTL: o.TTL, Drift: o.Drift, Stop: o.Stop, GoneWait: MaxTTL * 5 / 4, Rand: o.Rand}, record, o.Now())
	if err != nil {
		return nil, fmt.Errorf("open lease %s: %w", o.Lease, err)
	}
	core.unwilling = true // until Run
	return &Node{o: o, core: core, wake: make(chan struct{}, 1), inFlight: map[string]int{}, failing: map[string]error{}}, nil
}

// SetConfigurations tells what the plan says. See Core.SetConfigurations.
func (n *Node) SetConfigurations(chain []Configuration) error {
	var err error
	n.do(func(c *Core, now time.Duration) { err = c.SetConfigurations(now, chain) })
	return err
}

// SetWilling says whether this node can do the work. A holder that cannot hands over.
func (n *Node) SetWilling(willing bool) {
	n.do(func(c *Core, now time.Duration) { c.SetWilling(now, willing) })
}

// Run takes part until the context ends, then hands over what it holds: to the next node, or after a TTL to nobody. It returns when Work has.
func (n *Node) Run(ctx context.Context) error {
	n.SetWilling(true)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		select {
		case <-timer.C:
		case <-n.wake:
		case <-ctx.Done():
		}
		timer.Reset(n.tick())
	}
	n.SetWilling(false)
	for end := n.o.Now() + n.o.TTL + n.o.Stop; n.working() && n.o.Now() < end; {
		select {
		case <-timer.C:
		case <-n.wake:
		}
		timer.Reset(min(n.tick(), max(0, end-n.o.Now())))
	}
	n.mu.Lock()
	n.closed = true
	n.stopWork()
	n.mu.Unlock()
	n.wg.Wait()
	return nil
}

func (n *Node) working() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.work != nil
}

// tick lets time pass and gives how long until it should again.
func (n *Node) tick() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dispatch(n.apply(func(c *Core, now time.Duration) { c.Tick(now) }))
	return max(0, n.core.Next()-n.o.Now())
}

// do changes the core, saves what must be saved, and sends what there is to say. Then Run looks when the next tick is due.
func (n *Node) do(change func(c *Core, now time.Duration)) {
	n.mu.Lock()
	n.dispatch(n.apply(change))
	n.mu.Unlock()
	n.poke()
}

func (n *Node) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// apply needs the lock.
func (n *Node) apply(change func(c *Core, now time.Duration)) []Envelope {
	change(n.core, n.o.Now())
	for {
		record, out := n.core.Take()
		if record == nil {
			n.follow()
			return out
		}
		if err := n.o.Store.Save(*record); err != nil {
			if n.problem == nil {
				n.o.Log.Error("the lease's record cannot be written: this node grants nothing new until it can", "lease", n.o.Lease, "error", err)
			}
			n.problem = err
			n.core.Unsaved()
			n.follow()
			return nil
		}
		n.problem = nil
		n.core.Saved(n.o.Now())
	}
}

// Receive takes a message that an authenticated member sent, and gives the answer, if there is one.
func (n *Node) Receive(from string, m Message) *Message {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := n.apply(func(c *Core, now time.Duration) { c.Receive(now, from, m) })
	var answer *Message
	rest := out[:0:0]
	for _, e := range out {
		if answer == nil && e.To == from && (e.Message.Kind == KindAnswer || e.Message.Kind == KindYield) {
			answer = &e.Message
		} else {
			rest = append(rest, e)
		}
	}
	n.dispatch(rest)
	n.poke()
	return answer
}

// dispatch sends, each message on its own: one member that hangs delays no other. It needs the lock.
func (n *Node) dispatch(out []Envelope) {
	for _, e := range out {
		if n.closed || n.inFlight[e.To] >= maxInFlight {
			continue
		}
		n.inFlight[e.To]++
		n.wg.Go(func() { n.call(e) })
	}
}

func (n *Node) call(e Envelope) {
	ctx, cancel := context.WithTimeout(context.Background(), n.o.TTL/renewals)
	defer cancel()
	answer, err := n.o.Transport.Send(ctx, e.To, e.Message)
	n.mu.Lock()
	n.inFlight[e.To]--
	if err != nil && n.failing[e.To] == nil {
		n.o.Log.Warn("a member cannot be reached for the lease", "lease", n.o.Lease, "member", e.To, "error", err)
	}
	n.failing[e.To] = err
	if err == nil {
		delete(n.failing, e.To)
	}
	n.mu.Unlock()
	if err == nil && answer != nil {
		n.do(func(c *Core, now time.Duration) { c.Receive(now, e.To, *answer) })
	}
}
