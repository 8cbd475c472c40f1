package lease

import (
	"math"
	"slices"
	"time"
)

// Fractions of the TTL.
const (
	renewals = 4  // a holder renews so often in a TTL
	patience = 4  // a round of a candidate may take TTL/patience
	stagger  = 16 // candidates of lower priority wait TTL/stagger longer each
	repeat   = 16 // a claim is repeated every TTL/repeat
)

// Tick lets time pass. Next says when it is due again.
func (c *Core) Tick(now time.Duration) {
	c.slots = slices.DeleteFunc(c.slots, func(s slot) bool { return s.until <= now })
	if c.hint.until <= now {
		c.hint = slot{}
	}
	if c.base == nil {
		return
	}
	switch c.phase {
	case holding:
		c.tickHolding(now)
	case probing, asking:
		if now >= c.round.asked+c.p.TTL/patience {
			c.abandon(now)
		}
	case claiming:
		c.tickClaiming(now)
	}
	if c.phase == idle {
		c.consider(now)
	}
}

// Next is when Tick is due, if nothing else happens before.
func (c *Core) Next() time.Duration {
	next := time.Duration(math.MaxInt64)
	at := func(t time.Duration) {
		if t != unset {
			next = min(next, t)
		}
	}
	for _, s := range c.slots {
		at(s.until)
	}
	switch c.phase {
	case holding:
		at(c.until)
		at(c.renewAt)
		if !c.stopping {
			at(c.until - c.p.Stop)
			at(c.leaveBy)
		}
	case probing, asking:
		at(c.round.asked + c.p.TTL/patience)
	case claiming:
		at(c.claimAt)
		at(c.round.asked + c.p.TTL/2)
	case idle:
		if c.may() {
			at(c.campaignAt)
			at(c.preferAt)
			if c.hint.Token != 0 {
				at(c.hint.until)
			}
		}
	}
	return next
}

// may says whether this node could hold, as far as its own state goes.
func (c *Core) may() bool {
	return !c.unwilling && !c.working && c.base != nil && c.declared().priority(c.p.Self) > 0
}

// consider begins a campaign if it is this node's turn: nobody holds, or one holds that should not any more.
func (c *Core) consider(now time.Duration) {
	if !c.may() {
		return
	}
	holder, busy := c.holder(now)
	if holder.Token != c.seenHolder.Token || holder.leaving != c.seenHolder.leaving {
		c.seenHolder, c.preferAt, c.attempts = holder, unset, 0
	}
	conf := c.declared()
	switch {
	case !busy:
		c.preferAt = unset
		if c.campaignAt == unset {
			c.campaignAt = max(now, c.blocked) + c.spread(conf.rank(c.p.Self, ""))
		}
		if now >= c.campaignAt {
			c.probe(now, nil)
		}
	case holder.leaving || conf.priority(c.p.Self) > conf.priority(holder.Holder):
		c.campaignAt = unset
		if c.preferAt == unset {
			c.preferAt = c.takeOverAt(now, holder)
		}
		if now >= c.preferAt {
			c.probe(now, &Grant{Holder: holder.Holder, Token: holder.Token})
		}
	default:
		c.campaignAt, c.preferAt = unset, unset
	}
}

// takeOverAt is when to ask a holder that works to hand over: at once from one that leaves, else when this node has been well for a while.
func (c *Core) takeOverAt(now time.Duration, holder slot) time.Duration {
	rank := c.declared().rank(c.p.Self, holder.Holder)
	if holder.leaving {
		return now + c.spread(rank)
	}
	return max(now, c.steadyAt) + c.spread(rank)
}

func (c *Core) spread(rank int) time.Duration {
	return time.Duration(rank)*c.p.TTL/stagger + c.upTo(c.p.TTL/stagger)
}

func (c *Core) upTo(d time.Duration) time.Duration {
	return time.Duration(c.p.Rand.Int64N(int64(d) + 1))
}

// holder is who holds as far as this node can tell: by its own vote, else by what others said.
func (c *Core) holder(now time.Duration) (slot, bool) {
	for _, s := range slices.Backward(c.slots) {
		if s.Holder != c.p.Self && s.until > now {
			return s, true
		}
	}
	if c.hint.Token != 0 && c.hint.until > now {
		return c.hint, true
	}
	return slot{}, false
}

func (c *Core) probe(now time.Duration, after *Grant) {
	c.phase, c.campaignAt, c.preferAt, c.hint = probing, unset, unset, slot{}
	c.ask(now, after)
}

// ask begins a round: the same question to every voter of every configuration that may be in use, and to those of the next.
func (c *Core) ask(now time.Duration, after *Grant) {
	c.nonce++
	c.round = round{nonce: c.nonce, after: after, configurations: c.inUse(now), asked: now, granted: map[string]bool{}, answered: map[string]bool{}}
	m := Message{Kind: KindAsk, Nonce: c.nonce, Probe: c.phase == probing, Renew: c.phase == holding, TTL: c.p.TTL, After: after, Leaving: c.leaving(now)}
	if c.phase != probing {
		m.Token = c.held
	}
	for _, conf := range c.round.configurations {
		m.Configurations = append(m.Configurations, c.id(conf))
	}
	for _, name := range c.Peers() {
		c.send(name, m)
	}
	c.onAnswer(now, c.p.Self, c.answerAsk(now, c.p.Self, m))
}

// onAnswer counts an answer to the round that runs; others are too late.
func (c *Core) onAnswer(now time.Duration, from string, m Message) {
	c.peers[from] = max(c.peers[from], m.Known)
	if m.Nonce != c.round.nonce || c.phase == idle || c.phase == claiming {
		return
	}
	c.round.answered[from] = true
	if _, last := tokens(c.round.configurations[len(c.round.configurations)-1].Generation); m.Token < last {
		c.seen = max(c.seen, m.Token)
	}
	if m.Granted {
		c.round.granted[from] = true
	} else {
		c.learn(m)
		c.takeHint(now, m)
	}
	c.advance(now)
	if (c.phase == probing || c.phase == asking) && !c.dirty && len(c.round.answered) > len(c.Peers()) {
		c.abandon(now) // all have answered and it is not enough
	}
}

// takeHint remembers who holds, for a node whose own vote does not tell because the holder does not ask it yet.
func (c *Core) takeHint(now time.Duration, m Message) {
	for _, g := range m.Grants {
		if g.Holder != c.p.Self && g.Token > c.hint.Token {
			c.hint = slot{Grant: g, until: now + min(m.Wait, c.p.TTL)}
		}
	}
}

// advance goes on when a round is complete. What this node granted itself counts once it is on disk.
func (c *Core) advance(now time.Duration) {
	if c.dirty || c.phase == idle || !c.complete() {
		return
	}
	switch c.phase {
	case probing:
		c.phase = asking
		first, _ := tokens(c.round.configurations[len(c.round.configurations)-1].Generation)
		c.last = max(first, c.seen, c.token, c.last) + 1
		c.held, c.yielded = c.last, false
		c.ask(now, c.round.after)
	case asking:
		if c.round.after == nil || c.yielded {
			c.hold(now)
			return
		}
		c.phase, c.claimAt = claiming, now
		c.tickClaiming(now)
	case holding:
		c.until = max(c.until, c.round.asked+c.p.use())
		c.settle()
	}
}

func (c *Core) complete() bool {
	return c.most(c.round.configurations, c.round.asked, func(name string) bool { return c.round.granted[name] })
}

// abandon gives a round up. Its token is over, and its voters are told so that others need not wait.
func (c *Core) abandon(now time.Duration) {
	if c.phase != probing {
		c.over(c.held)
	}
	c.attempts = min(c.attempts+1, 3)
	wait := c.p.TTL/stagger + c.upTo(c.p.TTL/8<<c.attempts)
	if !sameGenerations(c.inUse(now), c.round.configurations) {
		wait = c.upTo(c.p.TTL / stagger)
	}
	c.phase, c.campaignAt, c.preferAt = idle, now+wait, now+wait
}

// over tells all voters, this one too, that a token of this node will not be used again.
func (c *Core) over(token uint64) {
	for _, name := range c.Peers() {
		c.send(name, Message{Kind: KindRelease, Token: token})
	}
	c.release(c.p.Self, token)
}

func sameGenerations(a, b []Configuration) bool {
	return slices.EqualFunc(a, b, func(a, b Configuration) bool { return a.Generation == b.Generation })
}
