// Package verify gives verdicts: whether a revision of a fleet repo may be believed, going by nothing but the raw bytes
// of Git objects, what was accepted before, and the trust/ that history itself handed on. It reads no CUE, no clock and
// no network, and it runs before anything in a revision is evaluated.
package verify

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

// ErrNotFound is what Objects gives for an object that is not there.
var ErrNotFound = errors.New("object not found")

// Objects gives Git objects. What it gives must have been checked against the id, and the caller must not change it.
// Verify calls it from one goroutine.
type Objects interface {
	// Object gives an object's kind (commit, tree, blob or tag) and its content. The error is or wraps ErrNotFound if
	// there is none.
	Object(id string) (kind string, raw []byte, err error)
}

// Sizer is an Objects that knows an object's size without reading it whole. Verify uses it where it can, so that a blob
// over the bound is refused before it is in memory.
type Sizer interface {
	// Size gives an object's kind and the size of its content in bytes.
	Size(id string) (kind string, size int64, err error)
}

// State is what a node stores between verdicts. It is all that Verify knows of the past; its zero value is of no use: see Enrol.
type State struct {
	// Fleet is the fleet's id, pinned at enrolment.
	Fleet string `json:"fleet"`
	// Anchor is the commit the node was enrolled with, or last re-anchored to by hand.
	Anchor string `json:"anchor"`
	// Accepted is the newest accepted revision.
	Accepted string `json:"accepted"`
	// Payload is the SHA-256 of what Accepted's signature is over. Whoever serves commits can encode a signature in other
	// ways, which gives the same commit other ids: descent goes by this, too.
	Payload string `json:"payload,omitempty"`
	// Floor is the committer date of Accepted, in seconds since 1970: the time cannot be earlier.
	Floor int64 `json:"floor"`
	// Files is how many files Accepted has.
	Files int `json:"files"`
	// Trust holds the files of trust/ at Accepted: the trust in force.
	Trust trust.Files `json:"trust"`
	// TrustTree is the id of their tree.
	TrustTree string `json:"trustTree"`
	// Countersignatures are those that counted, the newest KeptCountersignatures of them.
	Countersignatures []Countersignature `json:"countersignatures,omitempty"`
	// Reanchored are the re-anchor records that were followed: none is followed twice.
	Reanchored []Reanchoring `json:"reanchored,omitempty"`
	// Generation counts the states: it rises by one with every change.
	Generation uint64 `json:"generation"`
}

// KeptCountersignatures bounds State.Countersignatures.
const KeptCountersignatures = 64

// Countersignature is one that counted.
type Countersignature struct {
	Commit    string `json:"commit"`
	Principal string `json:"principal"`
	// Signature is the SSHSIG blob.
	Signature []byte `json:"signature"`
}

// Reanchoring names one re-anchor record.
type Reanchoring struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Request asks for a verdict on Tip.
type Request struct {
	State State `json:"state"`
	// Tip is the commit in question.
	Tip string `json:"tip"`
	// Notes is the commit refs/notes/holdfast points to, or "". It is never trusted: it carries countersignatures
	// and re-anchor records, which prove themselves.
	Notes string `json:"notes,omitempty"`
	// Now makes commits dated more than MaxAhead after it be refused. Nodes leave it zero: wall time never decides
	// there. The hub and people's commands set it.
	Now time.Time `json:"now,omitzero"`
	// Limits bound a revision. Zero fields have defaults.
	Limits Limits `json:"limits,omitzero"`
	// Progress goes on with a verdict that is not finished: the Progress it gave. State is the one it gave, too; the rest
	// is as before.
	Progress *Progress `json:"progress,omitempty"`
	// Enough, if set, is asked between commits; once it says yes the verdict is Unfinished. Every call gets at least one
	// commit further.
	Enough func() bool `json:"-"`
}

// Limits bound a revision. A zero field has the default of DefaultLimits.
type Limits struct {
	// Files bounds how many files a revision has.
	Files int `json:"files,omitempty"`
	// Depth bounds how many folders deep a path goes.
	Depth int `json:"depth,omitempty"`
	// PathBytes bounds a path, NameBytes one name in it.
	PathBytes int `json:"pathBytes,omitempty"`
	NameBytes int `json:"nameBytes,omitempty"`
	// BlobBytes bounds one file.
	BlobBytes int64 `json:"blobBytes,omitempty"`
	// TreeBytes bounds one tree object, CommitBytes one commit object.
	TreeBytes   int64 `json:"treeBytes,omitempty"`
	CommitBytes int64 `json:"commitBytes,omitempty"`
	// Commits bounds how many commits one verdict walks, Segment how many of them are held at a time.
	Commits int `json:"commits,omitempty"`
	Segment int `json:"segment,omitempty"`
	// NoteBytes bounds one note, NoteSignatures how many countersignatures of it are looked at.
	NoteBytes      int64 `json:"noteBytes,omitempty"`
	NoteSignatures int   `json:"noteSignatures,omitempty"`
	// Reported bounds Verdict.Commits; the newest are kept.
	Reported int `json:"reported,omitempty"`
}

// DefaultLimits gives the bounds that hold where none are set: 200,000 files 16 folders deep of at most 8 MiB each, in
// half a million commits.
func DefaultLimits() Limits {
	return Limits{
		Files: 200_000, Depth: 16, PathBytes: 1024, NameBytes: 255,
		BlobBytes: 8 << 20, TreeBytes: 16 << 20, CommitBytes: 1 << 20,
		Commits: 500_000, Segment: 4096, NoteBytes: 64 << 10, NoteSignatures: 64, Reported: 10_000,
	}
}

// Verdict is the answer to a Request.
type Verdict struct {
	// Accepted: the tip may be believed. If false, Reason says why not.
	Accepted bool `json:"accepted"`
	// Reason is Accepted or one of the other constants.
	Reason string `json:"reason"`
	// Message is for people: what is wrong, where, and what to do.
	Message string `json:"message"`
	// Commit is the offending commit, if one is; else the tip.
	Commit string `json:"commit"`
	// State is the one to store if Accepted or Unfinished; else it is the Request's.
	State State `json:"state"`
	// Progress is what the next Request takes if the verdict is Unfinished.
	Progress *Progress `json:"progress,omitempty"`
	// Commits says who signed what, oldest first, up to and with the offending commit.
	Commits []Signed `json:"commits,omitempty"`
	// Reanchored is the record that was followed, if one was.
	Reanchored *Reanchoring `json:"reanchored,omitempty"`
	// At is the tip's committer date if Accepted: how old the revision is.
	At time.Time `json:"at,omitzero"`
}

// Signed says who signed one commit and what came of it.
type Signed struct {
	Commit  string    `json:"commit"`
	Subject string    `json:"subject,omitempty"`
	Date    time.Time `json:"date,omitzero"`
	// Signer is the principal whose signature the commit carries, or "" if it carries none that counts.
	Signer string `json:"signer,omitempty"`
	// Key names the key of that signature: "SHA256:…" or an OpenPGP fingerprint.
	Key string `json:"key,omitempty"`
	// Problem says why the commit's own signature does not count, if it does not.
	Problem string `json:"problem,omitempty"`
	// Countersigners are the principals whose countersignatures count, sorted.
	Countersigners []string `json:"countersigners,omitempty"`
	// Ignored says of countersignatures that do not count why, and how many more there are.
	Ignored []string `json:"ignored,omitempty"`
	// Roles are the roles whose paths the commit changes, sorted.
	Roles []string `json:"roles,omitempty"`
	// Reason is Accepted, or why the commit was rejected.
	Reason string `json:"reason"`
}

// Enrol reads fleet id and trust at the anchor, a commit that someone vouched for out of band, and gives the first state.
// The anchor's own signature is not asked for; its tree is checked. The error is a *Rejection if the anchor is at fault.
func Enrol(o Objects, anchor string) (State, error) {
	return EnrolWithin(o, anchor, Limits{})
}

// Rejection is a reason as an error.
type Rejection struct {
	Reason  string
	Message string
	Commit  string
}

func (r *Rejection) Error() string { return r.Message }

// StableReason gives Reason.
func (r *Rejection) StableReason() string { return r.Reason }

// Verify judges every commit from the newest accepted revision to the tip along the first-parent path. An error means
// that objects could not be read; a bad revision is a Verdict. What many calls come to with Enough is what one comes to
// without, but for this: what they accepted on the way to a commit that is rejected stays accepted.
func Verify(ctx context.Context, o Objects, req Request) (Verdict, error) {
	v, err := newWalk(o, req)
	if err != nil {
		return Verdict{}, err
	}
	return v.run(ctx)
}
