//go:build e2e || !race

package edgeagent

import (
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/policy/verify/verifytest"
	"github.com/holdfast-dev/holdfast/reconciler/condition"
	"github.com/holdfast-dev/holdfast/test/fleetrepo"
)

// badRevision is one way a revision can be bad, in a fleet of startFleet's.
type badRevision struct {
	// before is pushed first, and taken.
	before func(*site)
	// bad puts the branch on what is bad.
	bad func(*site)
	// The condition that becomes False, why, and what its message says.
	typ, reason, says string
}

// rejected is a revision that trust does not allow.
func rejected(reason, says string, bad func(*site)) badRevision {
	return badRevision{bad: bad, typ: condition.Verified, reason: reason, says: says}
}

// after has something else happen first.
func (b badRevision) after(before func(*site)) badRevision {
	b.before = before
	return b
}

// planless is a revision that trust allows, and that gives the node no plan.
func planless(reason, says string, pool fleetrepo.Pool) badRevision {
	return badRevision{bad: func(s *site) { s.Set(pool) }, typ: condition.PlanReady, reason: reason, says: says}
}

// spoilt is the node's pool with CUE added to it.
func spoilt(more string) fleetrepo.Pool {
	p := berlin("8")
	p.More = more
	return p
}

func eight() verifytest.Files { return berlin("8").File() }

// signed pushes a commit with something odd about it, signed by somebody who may change all but trust and rome.
func signed(c verifytest.Commit) func(*site) {
	return func(s *site) {
		c.By = s.Key("carol")
		s.Commit(c)
	}
}

// oddEntry pushes the tree there is with one entry more at its root.
func oddEntry(entry func(*site) verifytest.Entry) func(*site) {
	return func(s *site) {
		entries := append(s.Entries(s.TreeOf(s.Tip())), entry(s))
		signed(verifytest.Commit{Tree: s.Tree(entries...)})(s)
	}
}

// rotated gives a principal a new key, and gives the old one, whose last act it was.
func rotated(s *site, who, with string) *verifytest.Key {
	old := s.Key(who)
	s.NewKeyFor(who)
	s.Countersign(s.Commit(verifytest.Commit{Files: s.TrustFiles(sitePolicy()), By: old}), with)
	return old
}

// bounded makes erin's key valid for the second hour of the fleet only.
func bounded(s *site) {
	erin := s.Key("erin").AllowedSigner()
	erin.ValidAfter, erin.ValidBefore = verifytest.Start.Add(time.Hour), verifytest.Start.Add(2*time.Hour)
	signers := []trust.Signer{erin}
	for _, who := range []string{"alice", "bob", "carol", "dora"} {
		signers = append(signers, s.Key(who).AllowedSigner())
	}
	s.Countersign(s.Push("alice", verifytest.Files{"trust/" + trust.AllowedSignersFile: string(trust.FormatSigners(signers))}), "bob")
}

// byErin is signed by erin that long after the fleet began.
func byErin(at time.Duration) func(*site) {
	return func(s *site) {
		s.Commit(verifytest.Commit{Files: eight(), By: s.Key("erin"), Date: verifytest.Start.Add(at)})
	}
}

// otherBytes gives the header of a signature that principal made over something else.
func otherBytes(s *site, principal string) string {
	return verifytest.Header("gpgsig", verifytest.SSHSignature(s.t, s.Key(principal), trust.NamespaceGit, []byte("something else")))
}

// greedy is a revision whose CUE, which may use package strings, takes more of something than the plan in force allows.
func greedy(says, more string) badRevision {
	files := spoilt(more).File()
	for name, text := range files {
		files[name] = strings.Replace(text, "package fleet\n", "package fleet\n\nimport \"strings\"\n", 1)
	}
	return badRevision{
		bad: func(s *site) { s.Push("carol", files) },
		typ: condition.PlanReady, reason: condition.ReasonEvaluationLimit, says: says,
	}
}

// halfGigabyte is CUE of one string.
const halfGigabyte = `
_a: strings.Repeat("x", 1000000)
_b: _a + _a + _a + _a + _a + _a + _a + _a
_c: _b + _b + _b + _b + _b + _b + _b + _b
_d: _c + _c + _c + _c + _c + _c + _c + _c
pool: displayName: _d
`

// seventeenMegabytes is a plan of that size.
const seventeenMegabytes = `
_a: strings.Repeat("x", 850000)
_b: _a + _a + _a + _a + _a
pool: displayName: _b + _b + _b + _b
`

// thousandSearches is CUE that looks through 4 MB a thousand times, and keeps nothing.
const thousandSearches = `
_digits: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
_long: strings.Repeat("xyxy", 1000000)
_found: [for a in _digits for b in _digits for c in _digits if _long =~ "(x|y|xy)+\(a)\(b)\(c)z" {a}]
pool: labels: bomb: "\(len(_found))"
`

// badRevisions are the kinds of bad revision that a node can meet.
var badRevisions = map[string]badRevision{
	"unsigned": rejected(verify.Unsigned, "carries no signature", func(s *site) { s.PushUnsigned(eight()) }),
	"unsigned under a signed one": rejected(verify.Unsigned, "carries no signature", func(s *site) {
		s.PushUnsigned(eight())
		s.Set(berlin("8"))
	}),
	"a forge's merge":           rejected(verify.UnknownKey, "no principal holds", func(s *site) { s.MergeRequest(eight(), s.Key("forge")) }),
	"an unsigned merge":         rejected(verify.Unsigned, "", func(s *site) { s.MergeRequest(eight(), nil) }),
	"unknown key":               rejected(verify.UnknownKey, "no principal holds", func(s *site) { s.Push("mallory", eight()) }),
	"a key before its validity": rejected(verify.KeyNotValid, "erin", byErin(30*time.Minute)).after(bounded),
	"a key after its validity":  rejected(verify.KeyNotValid, "erin", byErin(3*time.Hour)).after(bounded),
	"a revoked key": rejected(verify.UnknownKey, "no principal holds", func(s *site) {
		s.Commit(verifytest.Commit{Files: eight(), By: s.stolen})
	}).after(func(s *site) { s.stolen = rotated(s, "alice", "bob") }),
	"another role's path": rejected(verify.PathNotPermitted, "role rome", func(s *site) { s.Push("carol", fleetrepo.One("rome", "n2", "rack", "2").File()) }),
	"a countersignature, another fleet's": rejected(verify.Unsigned, "", func(s *site) {
		s.CountersignFor("dulse", s.MergeRequest(eight(), nil), s.Key("carol"))
	}),
	"two countersignatures of one": rejected(verify.ThresholdNotMet, "takes 2 of role root", func(s *site) {
		s.Countersign(s.MergeRequest(verifytest.Files{"trust/README.md": "x"}, nil), "alice", "alice")
	}),
	"a signature over other bytes": rejected(verify.BadSignature, "over other bytes", func(s *site) {
		s.Commit(verifytest.Commit{Files: eight(), Headers: otherBytes(s, "carol")})
	}),
	"two signatures": rejected(verify.MultipleSignatures, "", func(s *site) {
		s.Commit(verifytest.Commit{Files: eight(), By: s.Key("carol"), Headers: otherBytes(s, "alice")})
	}),
	"an older signed commit": rejected(verify.NotDescendant, "", func(s *site) {
		s.SetRef("refs/heads/"+verifytest.Branch, s.Anchor())
	}).after(func(s *site) { s.Push("carol", verifytest.Files{"README.md": "x"}) }),
	"history rewritten": rejected(verify.NotDescendant, "history was rewritten", func(s *site) {
		s.Commit(verifytest.Commit{Parents: []string{s.Anchor()}, Files: eight(), By: s.Key("carol")})
	}).after(func(s *site) { s.Push("carol", verifytest.Files{"README.md": "x"}) }),
	"trust without the threshold": rejected(verify.ThresholdNotMet, "takes 2 of role root", func(s *site) {
		s.Push("alice", verifytest.Files{"trust/README.md": "x"})
	}),
	"trust that does not parse": rejected(verify.TrustInvalid, "trust/policy.json:1", func(s *site) {
		s.Countersign(s.Push("alice", verifytest.Files{"trust/policy.json": "{"}), "bob")
	}),
	"another fleet": rejected(verify.FleetChanged, "dulse", func(s *site) {
		p := sitePolicy()
		p.Fleet = "dulse"
		s.Countersign(s.Push("alice", s.TrustFiles(p)), "bob")
	}),
	"dated 2099": rejected(verify.CommitDateImplausible, "2099-01-01",
		signed(verifytest.Commit{Files: eight(), Date: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)})),
	"dated before its parent": rejected(verify.CommitDateBeforeParent, "",
		signed(verifytest.Commit{Files: eight(), Date: verifytest.Start.Add(-time.Second)})),
	"a submodule": rejected(verify.TreeInvalid, "sub is a submodule", func(s *site) {
		signed(verifytest.Commit{Submodules: verifytest.Files{"sub": s.Anchor()}})(s)
	}),
	"a symlink out of the tree": rejected(verify.TreeInvalid, "outside of the tree",
		signed(verifytest.Commit{Symlinks: verifytest.Files{"pools/link": "../../etc/passwd"}})),
	"a path with ..": rejected(verify.TreeInvalid, `the name ".."`, oddEntry(func(s *site) verifytest.Entry {
		sub := s.Tree(verifytest.Entry{Mode: "100644", Name: "..", ID: s.Write("blob", []byte("x"))})
		return verifytest.Entry{Mode: "40000", Name: "zz", ID: sub}
	})),
	"a big file": rejected(verify.TooLarge, "zz has 9437184 bytes", signed(verifytest.Commit{Files: verifytest.Files{"zz": strings.Repeat("x", 9<<20)}})),
	"a file too big to fetch": {
		bad: signed(verifytest.Commit{Files: verifytest.Files{"zz": strings.Repeat("x", 20<<20)}}),
		typ: condition.SourceReady, reason: condition.ReasonTooLarge,
	},
	"a million files": rejected(verify.TooLarge, "files", oddEntry(func(s *site) verifytest.Entry {
		id, mode := s.Write("blob", []byte("x")), "100644"
		for range 6 {
			var entries []verifytest.Entry
			for i := range 10 {
				entries = append(entries, verifytest.Entry{Mode: mode, Name: string(rune('0' + i)), ID: id})
			}
			id, mode = s.Tree(entries...), "40000"
		}
		return verifytest.Entry{Mode: mode, Name: "zz", ID: id}
	})),

	"CUE that does not parse":     planless(condition.ReasonInvalidFleet, "pools/berlin/pool.cue:", spoilt("pool: {")),
	"CUE that does not unify":     planless(condition.ReasonInvalidFleet, "pools/berlin/pool.cue:", spoilt(`pool: type: "Cloud"`)),
	"CUE that is not concrete":    planless(condition.ReasonInvalidFleet, "pools/berlin/pool.cue:", spoilt("pool: nodes: n3: arch: string")),
	"CUE that eats memory":        greedy("out of memory", halfGigabyte),
	"CUE that eats time":          greedy("out of processor time", thousandSearches),
	"CUE that says much":          greedy("too much output: over 16777216 bytes", seventeenMegabytes),
	"the node is absent":          planless(condition.ReasonNodeAbsent, "does not name node n1", fleetrepo.One("berlin", "n9", "rack", "8")),
	"moved to a pool that is not": planless(condition.ReasonPoolAbsent, "pools/atlantis", fleetrepo.Pool{Name: "berlin", MovedTo: map[string]string{"n1": "atlantis"}}),
	"the pool is absent": {
		bad: signed(verifytest.Commit{Remove: []string{"pools/berlin"}}),
		typ: condition.PlanReady, reason: condition.ReasonPoolAbsent, says: "pools/berlin",
	},
}
