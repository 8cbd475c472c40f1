package verify

import "time"

// Reasons of verdicts. They are stable: conditions, metrics and scripts carry them. docs/reasons.md says what to do about each.
const (
	// Accepted: the revision may be believed.
	Accepted = "Accepted"

	// Unfinished: every commit looked at so far may be believed, and more are left to look at.
	Unfinished = "Unfinished"

	// Unsigned: the commit carries no signature, and no countersignatures make up for it.
	Unsigned = "Unsigned"
	// UnknownKey: the commit is signed with a key that no principal holds, such as a forge's, and no countersignatures
	// make up for it.
	UnknownKey = "UnknownKey"
	// KeyNotValid: a principal's key, but outside its validity at the committer date, revoked, or not for commits.
	KeyNotValid = "KeyNotValid"
	// BadSignature: the signature cannot be read, is of a refused kind, or is over other bytes than this commit.
	BadSignature = "BadSignature"
	// MultipleSignatures: the commit carries more than one signature.
	MultipleSignatures = "MultipleSignatures"
	// PathNotPermitted: the commit changes a path that its signers may not change, or that belongs to no role.
	PathNotPermitted = "PathNotPermitted"
	// ThresholdNotMet: those who may change the path signed, but too few of them.
	ThresholdNotMet = "ThresholdNotMet"

	// NotDescendant: the newest accepted revision is not on the tip's first-parent path: an older commit is offered
	// again, or history was rewritten.
	NotDescendant = "NotDescendant"
	// HistoryTooLong: more commits than Limits.Commits lie between the newest accepted revision and the tip.
	HistoryTooLong = "HistoryTooLong"

	// TrustInvalid: trust/ is missing, cannot be read, or breaks its own rules.
	TrustInvalid = "TrustInvalid"
	// FleetChanged: trust/policy.json names another fleet.
	FleetChanged = "FleetChanged"

	// CommitInvalid: the commit object is malformed.
	CommitInvalid = "CommitInvalid"
	// CommitDateBeforeParent: the committer date is earlier than the first parent's.
	CommitDateBeforeParent = "CommitDateBeforeParent"
	// CommitDateImplausible: the committer date is more than MaxStep after the first parent's.
	CommitDateImplausible = "CommitDateImplausible"
	// CommitDateInFuture: the committer date is more than MaxAhead after Request.Now.
	CommitDateInFuture = "CommitDateInFuture"

	// TreeInvalid: a malformed tree, a submodule, a symlink out of the tree, a path with "..", or another odd name.
	TreeInvalid = "TreeInvalid"
	// TooLarge: a bound on files, bytes, depth or path length is exceeded.
	TooLarge = "TooLarge"
)

const (
	// MaxAhead is how far ahead of Request.Now a commit may be dated.
	MaxAhead = time.Hour
	// MaxStep is how much later than its first parent a commit may be dated: five years of 365 days and two leap days.
	MaxStep = (5*365 + 2) * 24 * time.Hour
)
