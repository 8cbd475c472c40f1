package lease

import "time"

// Held is what the owner of a lease may rely on.
type Held struct {
	// Token is higher than that of every holder before. What the lease protects should refuse lower ones than it has seen.
	Token uint64
	// Until is the time, on this node's clock, at which everything must have stopped if it is not extended before. The owner is told to stop
	// earlier, by Params.Stop.
	Until time.Duration
}

// Held says whether the owner may work now.
func (c *Core) Held(now time.Duration) (Held, bool) {
	if c.phase != holding || c.stopping || now >= c.until-c.p.Stop {
		return Held{}, false
	}
	return Held{Token: c.held, Until: c.until}, true
}

// Until is the end of the running lease, also while the owner stops. It is in the past if there is none.
func (c *Core) Until() time.Duration {
	if c.phase != holding {
		return unset
	}
	return c.until
}

// hold begins to hold: the round is complete, and what it waited for is over.
func (c *Core) hold(now time.Duration) {
	c.until = c.round.asked + c.p.use()
	if now >= c.until-c.p.Stop {
		c.abandon(now)
		return
	}
	c.renewAt = c.round.asked + c.p.TTL/renewals
	if c.round.after != nil {
		c.renewAt = now // says to the voters that the handover is done
	}
	c.phase, c.working, c.stopping, c.yieldTo, c.leaveBy, c.attempts = holding, true, false, "", unset, 0
	c.settle()
}

// settle retires older configurations after a complete round: a majority of each has written down the newest of the round.
func (c *Core) settle() {
	c.retire(c.round.configurations[len(c.round.configurations)-1])
}

// leaving says whether this holder wants to hand over: it cannot do the work, or is no member any more and the others know.
func (c *Core) leaving(now time.Duration) bool {
	if c.phase != holding {
		return false
	}
	next := c.declared()
	return c.unwilling || next.priority(c.p.Self) == 0 && c.knownToMost(now, next)
}

func (c *Core) tickHolding(now time.Duration) {
	if now >= c.until {
		c.phase, c.campaignAt, c.preferAt = idle, unset, unset // lapsed: the token is over, the owner has been told before
		return
	}
	if !c.stopping {
		switch leaving := c.leaving(now); {
		case !leaving:
			c.leaveBy = unset
		case c.leaveBy == unset:
			c.leaveBy, c.renewAt = now+c.p.TTL, now // tells the others now
		}
		c.stopping = now >= c.until-c.p.Stop || c.leaveBy != unset && now >= c.leaveBy
	}
	if now >= c.renewAt {
		c.renewAt = now + c.p.TTL/renewals
		c.ask(now, nil)
	}
}

func (c *Core) tickClaiming(now time.Duration) {
	if now >= c.round.asked+c.p.TTL/2 {
		c.abandon(now)
		return
	}
	if now >= c.claimAt {
		c.claimAt = now + c.p.TTL/repeat
		c.send(c.round.after.Holder, Message{Kind: KindClaim, Nonce: c.round.nonce, Token: c.round.after.Token})
	}
}

// Stopped tells that the owner has stopped, because it was told to or by itself. The lease can move.
func (c *Core) Stopped(now time.Duration) {
	if !c.working {
		return
	}
	c.working = false
	if c.yieldTo != "" {
		c.send(c.yieldTo, Message{Kind: KindYield, Token: c.held})
	}
	c.over(c.held)
	if c.phase == holding {
		c.phase, c.campaignAt, c.preferAt = idle, now+c.p.TTL/2+c.upTo(c.p.TTL/2), unset
		c.steadyAt = now + 2*c.p.TTL
	}
	c.yieldTo, c.stopping = "", false
	c.Tick(now)
}

// onClaim is asked to hand over. It yields only what is over, and makes it over if who asks is to be preferred.
func (c *Core) onClaim(now time.Duration, from string, m Message) {
	if _, last := tokens(c.declared().Generation); m.Token > last {
		return // no token that there can be
	}
	running := c.phase == asking || c.phase == claiming || c.phase == holding
	if m.Token == c.held && (running || c.working) {
		next := c.declared()
		// Who claims under a newer plan than this node's has grants that this node can renew its own against no more.
		if !c.leaving(now) && m.Known <= next.Generation && next.priority(from) <= next.priority(c.p.Self) {
			return
		}
		if c.working {
			c.yieldTo, c.stopping = from, true // Stopped yields
			return
		}
		c.abandon(now)
	}
	c.last = max(c.last, m.Token)
	c.send(from, Message{Kind: KindYield, Token: m.Token})
}

// onYield hears that the token it waits for is over.
func (c *Core) onYield(now time.Duration, from string, m Message) {
	after := c.round.after
	if c.phase != asking && c.phase != claiming || after == nil || after.Holder != from || after.Token != m.Token {
		return
	}
	c.yielded = true
	if c.phase == claiming {
		c.hold(now)
	}
}

// Receive takes a message of an authenticated member. Answers are among what Take gives.
func (c *Core) Receive(now time.Duration, from string, m Message) {
	if from == c.p.Self {
		return
	}
	c.peers[from] = max(c.peers[from], m.Known)
	switch m.Kind {
	case KindAsk:
		c.send(from, c.answerAsk(now, from, m))
	case KindAnswer:
		if c.base != nil {
			c.onAnswer(now, from, m)
		}
	case KindRelease:
		c.release(from, m.Token)
	case KindClaim:
		c.onClaim(now, from, m)
	case KindYield:
		c.onYield(now, from, m)
	}
	c.Tick(now)
}
