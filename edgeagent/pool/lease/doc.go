// Package lease lets the nodes of a pool agree on one holder, with no help from outside their site: the gateway that holds the tunnels,
// or the node that fetches for all. There is never more than one holder, whatever the network, power cuts and wall clocks do.
//
// A lease is held by the grants of a majority of the declared voters, for a time that each side measures on its own clock:
//
//	holder   ask ├──────────────── TTL·(1−drift) ────────────────┤ ends here at the latest
//	                                              stop ├─────────┤ the owner is told to stop
//	voter          answer ├────────────────────── TTL ─────────────────────────┤ grants to another from here
//
// The holder counts from before it asked, a voter from when it answered, so the holder's time ends first however long messages took.
// What keeps it safe:
//
//   - Two majorities share a voter, and a voter's grant binds it to one holder until it is over.
//   - A voter writes to disk whom it granted a new token before it answers. After a restart it takes that grant for unexpired. Renewals write nothing.
//   - Tokens only rise. A token that has lapsed, was handed over or given up is never used again, so it fences what it protects.
//   - A handover is granted beforehand, beside the running grant, and takes effect when the old holder says that its own token is over.
//   - While members change, majorities of the old and of the new configuration are needed; see configuration.go.
//
// The protocol is Core, which has no clock, disk or network of its own. Node drives it, and the simulation in the tests does.
// A member that lies is not guarded against: messages must come from authenticated members.
package lease
