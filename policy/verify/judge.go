package verify

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

// judge decides on one commit, whose first parent is w.parent, and moves the state on to it. The phases are in the order of
// what they cost: nothing of a commit's tree is read before someone with a key has vouched for it.
func (w *walk) judge(ctx context.Context, c *commit) (Signed, error) {
	s := Signed{Commit: c.id, Subject: c.subject, Date: c.date, Reason: Accepted}
	if err := w.checkDate(c); err != nil {
		return s, err
	}
	o, err := ownSignature(c, w.trust)
	if err != nil {
		return s, err
	}
	s.Signer, s.Key, s.Problem = o.principal, o.key, o.problem
	counted, err := w.countersigners(c, &s)
	if err != nil {
		return s, err
	}
	signers := slices.Clone(s.Countersigners)
	if o.principal != "" {
		signers = append(signers, o.principal)
	}
	if len(signers) == 0 {
		return s, w.unsigned(c, o)
	}
	roles, files, err := w.changedRoles(ctx, c)
	if err != nil {
		return s, err
	}
	s.Roles = slices.Sorted(maps.Keys(roles))
	if err := w.authorise(c, roles, signers); err != nil {
		return s, err
	}
	if err := w.handOnTrust(c); err != nil {
		return s, err
	}
	w.state.Files += files
	w.state.Accepted, w.state.Payload, w.state.Floor, w.parent = c.id, c.payloadSum(), c.date.Unix(), c
	w.keep(counted)
	return s, nil
}

// checkDate judges the committer date, by history alone unless the request brings a clock.
func (w *walk) checkDate(c *commit) error {
	date := c.date.Format(dateLayout)
	switch step := c.date.Sub(w.parent.date); {
	case step < 0:
		return reject(CommitDateBeforeParent, "%s is dated %s, before its first parent's %s: check the clock it was made with and make it again", commitName(c), date, w.parent.date.Format(dateLayout))
	case step > MaxStep:
		return reject(CommitDateImplausible, "%s is dated %s, more than five years after its first parent: check the clock it was made with and make it again", commitName(c), date)
	}
	return w.checkAhead(c.id, c.date.Unix())
}

// checkAhead refuses dates ahead of the request's clock.
func (w *walk) checkAhead(id string, date int64) error {
	if w.req.Now.IsZero() || !unix(date).After(w.req.Now.Add(MaxAhead)) {
		return nil
	}
	return reject(CommitDateInFuture, "commit %s is dated %s, more than an hour ahead of now, %s: check the clock it was made with and make it again",
		short(id), unix(date).Format(dateLayout), w.req.Now.UTC().Format(dateLayout))
}

// maxIgnored is how many countersignatures that do not count a verdict tells of for each commit.
const maxIgnored = 8

// countersigners finds who countersigned the commit, in the note and in what the state kept, and writes them into s. It gives the
// signatures that count.
func (w *walk) countersigners(c *commit, s *Signed) ([]Countersignature, error) {
	note, err := w.notes.of(c.id)
	if err != nil {
		return nil, err
	}
	blobs := note.Countersignatures
	for _, kept := range w.state.Countersignatures {
		if kept.Commit == c.id && !slices.ContainsFunc(blobs, func(b []byte) bool { return bytes.Equal(b, kept.Signature) }) {
			blobs = append(blobs, kept.Signature)
		}
	}
	if len(blobs) == 0 {
		return nil, nil
	}
	message := countersignMessage(w.state.Fleet, c.raw)
	var counted []Countersignature
	for _, blob := range blobs {
		principal, problem := signerOf(blob, trust.NamespaceCountersign, message, w.trust, c.date.Unix())
		switch {
		case problem != nil:
			s.Ignored = append(s.Ignored, "a countersignature with "+problem.Error())
		case principal == s.Signer:
			s.Ignored = append(s.Ignored, fmt.Sprintf("a countersignature by %s, who signed the commit itself", principal))
		case slices.Contains(s.Countersigners, principal):
			s.Ignored = append(s.Ignored, fmt.Sprintf("another countersignature by %s", principal))
		default:
			s.Countersigners = append(s.Countersigners, principal)
			counted = append(counted, Countersignature{Commit: c.id, Principal: principal, Signature: blob})
		}
	}
	sort.Strings(s.Countersigners)
	if over := len(s.Ignored) - maxIgnored; over > 0 { // whoever can write notes must not make verdicts large
		s.Ignored = append(s.Ignored[:maxIgnored:maxIgnored], fmt.Sprintf("and %d more", over))
	}
	return counted, nil
}

// unsigned rejects a commit that nobody vouches for.
func (w *walk) unsigned(c *commit, o own) error {
	return reject(o.reason, "%s: %s, and nobody countersigned it; a principal can: holdfast countersign %s", commitName(c), o.problem, c.id)
}

// changedRoles checks the commit's tree and gives, by role, the first path of it that the commit changes; "" stands for no role.
// It also gives how many files there are more.
func (w *walk) changedRoles(ctx context.Context, c *commit) (map[string]string, int, error) {
	roles := map[string]string{}
	diff, err := diffTrees(ctx, w.reader, w.parent.tree, c.tree, w.state.Files, func(path string) {
		role, ok := w.trust.RoleOf(path)
		if !ok {
			role = ""
		}
		if _, have := roles[role]; !have {
			roles[role] = path
		}
	})
	if r := rejection(err); r != nil {
		r.Message = commitName(c) + ": " + r.Message
	}
	return roles, diff.files, err
}

// authorise holds the signers against the roles whose paths change. A commit that changes nothing takes one signer of any role.
func (w *walk) authorise(c *commit, roles map[string]string, signers []string) error {
	if len(roles) == 0 {
		for _, role := range w.trust.Policy.Roles {
			if len(among(signers, role.Principals)) > 0 {
				return nil
			}
		}
		return reject(PathNotPermitted, "%s is signed by %s, who has no role", commitName(c), names(signers))
	}
	for _, name := range slices.SortedFunc(maps.Keys(roles), func(a, b string) int { return strings.Compare(roles[a], roles[b]) }) {
		path := roles[name]
		if name == "" {
			return reject(PathNotPermitted, "%s changes %s, which belongs to no role: give a role of %s/%s that path", commitName(c), path, trust.Folder, trust.PolicyFile)
		}
		role := w.trust.Policy.Roles[name]
		have := among(signers, role.Principals)
		if len(have) == 0 {
			return reject(PathNotPermitted, "%s changes %s, which belongs to role %s (%s), and is signed by %s; one of them can countersign: holdfast countersign %s",
				commitName(c), path, name, names(role.Principals), names(signers), c.id)
		}
		if len(have) < role.Threshold {
			return reject(ThresholdNotMet, "%s changes %s, which takes %d of role %s (%s), and is signed by %s; others can countersign: holdfast countersign %s",
				commitName(c), path, role.Threshold, name, names(role.Principals), names(have), c.id)
		}
	}
	return nil
}

// among gives which of the signers are principals.
func among(signers, principals []string) []string {
	var out []string
	for _, s := range signers {
		if slices.Contains(principals, s) {
			out = append(out, s)
		}
	}
	sort.Strings(out)
	return out
}

// handOnTrust puts the commit's trust in force. Most commits leave trust/ as it is, which its tree's id says.
func (w *walk) handOnTrust(c *commit) error {
	tree, err := trustTree(w.reader, c.tree)
	if err != nil {
		return named(err, c)
	}
	if tree == w.state.TrustTree {
		return nil
	}
	files, err := trustFiles(w.reader, tree)
	if err != nil {
		return named(err, c)
	}
	t, err := parseTrust(files)
	if err != nil {
		return named(err, c)
	}
	if err := sameFleet(w.state.Fleet, t.Policy.Fleet); err != nil {
		return named(err, c)
	}
	w.trust, w.state.Trust, w.state.TrustTree = t, files, tree
	return nil
}

func named(err error, c *commit) error {
	if r := rejection(err); r != nil {
		r.Message = commitName(c) + ": " + r.Message
	}
	return err
}

// keep adds countersignatures that counted to the state, and lets the oldest go.
func (w *walk) keep(counted []Countersignature) {
	for _, c := range counted {
		known := slices.ContainsFunc(w.state.Countersignatures, func(k Countersignature) bool {
			return k.Commit == c.Commit && k.Principal == c.Principal
		})
		if !known {
			w.state.Countersignatures = append(w.state.Countersignatures, c)
		}
	}
	if over := len(w.state.Countersignatures) - KeptCountersignatures; over > 0 {
		w.state.Countersignatures = slices.Delete(w.state.Countersignatures, 0, over)
	}
}
