package lease

import (
	"slices"
	"time"
)

// A token's upper half is the generation of the newest configuration it was asked under. So tokens also rise when all that remembered the last one
// are gone, and nobody can use up those of generations to come.
const tokenBits = 32

// tokens are the first and the last of a generation.
func tokens(generation uint64) (first, last uint64) {
	return generation << tokenBits, (generation+1)<<tokenBits - 1
}

// answerAsk is the voter: it grants, or says why not.
func (c *Core) answerAsk(now time.Duration, from string, a Message) Message {
	c.slots = slices.DeleteFunc(c.slots, func(s slot) bool { return s.until <= now })
	answer := Message{Kind: KindAnswer, Nonce: a.Nonce, Known: c.declared().Generation, Token: c.token}
	answer.Reason = c.refuse(now, from, a)
	if answer.Reason == "" {
		answer.Granted = true
		if !a.Probe {
			c.grant(now, from, a)
		}
	}
	for _, s := range c.slots {
		answer.Grants = append(answer.Grants, s.Grant)
		answer.Wait = max(answer.Wait, s.until-now)
	}
	answer.Wait = max(answer.Wait, c.blocked-now, 0)
	if c.base != nil {
		id := c.id(*c.base)
		answer.Base = &id
	}
	for _, s := range c.started {
		answer.Started = append(answer.Started, c.id(s))
	}
	return answer
}

// refuse says why an ask is not granted, "" if it is.
func (c *Core) refuse(now time.Duration, from string, a Message) string {
	if a.TTL <= 0 || a.TTL > MaxTTL {
		return ReasonTTL
	}
	if reason := c.refuseConfigurations(from, a.Configurations); reason != "" {
		return reason
	}
	if !a.Probe && c.slotOf(from, a.Token) >= 0 {
		return "" // a renewal
	}
	if now < c.blocked {
		return ReasonStarting
	}
	if !a.Probe && c.stale(from, a) {
		return ReasonStale
	}
	others := c.others(from)
	if len(others) == 0 {
		return ""
	}
	// The next grant, beside the running one of exactly that holder and token.
	if len(others) == 1 && a.After != nil && a.After.Holder == others[0].Holder && a.After.Token == others[0].Token {
		return ""
	}
	return ReasonBusy
}

// stale says whether a token is too old to be granted anew. A holder goes on with its own also at a voter that has seen a higher one: that
// was never granted by a majority, or the holder would not hold.
func (c *Core) stale(from string, a Message) bool {
	if a.Renew && a.Token <= c.token {
		return slices.ContainsFunc(c.slots, func(s slot) bool { return s.Holder == from && s.Token > a.Token })
	}
	_, last := tokens(a.Configurations[len(a.Configurations)-1].Generation)
	return a.Token <= c.token || a.Token > last
}

func (c *Core) refuseConfigurations(from string, ids []ID) string {
	if len(ids) == 0 || c.base == nil {
		return ReasonBehind
	}
	newest := ids[len(ids)-1]
	if _, ok := c.known[newest.Generation]; !ok {
		return ReasonBehind
	}
	may := false
	for _, id := range ids {
		old, ok := c.known[id.Generation]
		if ok && c.id(old) != id {
			return ReasonConflict
		}
		may = may || ok && old.priority(from) > 0
	}
	if !may {
		return ReasonStranger
	}
	if c.base.Generation > ids[0].Generation {
		return ReasonRetired
	}
	for _, s := range append([]Configuration{*c.base}, c.started...) {
		if s.Generation >= ids[0].Generation && !slices.Contains(ids, c.id(s)) {
			return ReasonOutdated
		}
	}
	return ""
}

// grant binds this voter. Only what a restart must know makes the record dirty: a renewal does not.
func (c *Core) grant(now time.Duration, from string, a Message) {
	if oldest, ok := c.find(a.Configurations[0]); ok {
		c.retire(oldest)
	}
	if newest, ok := c.find(a.Configurations[len(a.Configurations)-1]); ok {
		c.start(newest)
	}
	i := c.slotOf(from, a.Token)
	if i < 0 {
		c.slots = append(c.others(from), slot{Grant: Grant{Holder: from, Token: a.Token, TTL: a.TTL}})
		c.token, c.dirty = max(c.token, a.Token), true
		i = len(c.slots) - 1
	}
	if i > 0 && a.After == nil {
		c.slots, i, c.dirty = c.slots[i:], 0, true // it holds: what it waited for is over
	}
	s := &c.slots[i]
	s.until, s.leaving = max(s.until, now+a.TTL), a.Leaving
	if a.TTL > s.TTL {
		s.TTL, c.dirty = a.TTL, true
	}
}

func (c *Core) slotOf(holder string, token uint64) int {
	return slices.IndexFunc(c.slots, func(s slot) bool { return s.Holder == holder && s.Token == token })
}

// others are the grants to other nodes.
func (c *Core) others(from string) []slot {
	return slices.DeleteFunc(slices.Clone(c.slots), func(s slot) bool { return s.Holder == from })
}

// release frees what a holder says is over.
func (c *Core) release(from string, token uint64) {
	c.slots = slices.DeleteFunc(c.slots, func(s slot) bool { return s.Holder == from && s.Token <= token })
}
