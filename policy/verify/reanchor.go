package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/policy/trust"
)

// ReanchorSigners gives, by the commit that re-anchor records lead to, the root principals who signed one, sorted. The note is
// that of the state's newest accepted revision.
func ReanchorSigners(s State, n Note) (map[string][]string, error) {
	t, err := trust.Parse(s.Trust)
	if err != nil {
		return nil, fmt.Errorf("the stored trust: %w", err)
	}
	return reanchorSigners(s, t, n), nil
}

func reanchorSigners(s State, t *trust.Trust, n Note) map[string][]string {
	signers := map[string][]string{}
	for _, r := range n.Reanchors {
		message := reanchorMessage(s.Fleet, s.Accepted, r.To)
		// A record carries no date. Judging keys at the floor keeps one that expired since from being used with an old date.
		principal, problem := signerOf(r.Signature, trust.NamespaceReanchor, message, t, s.Floor)
		if problem != nil || !slices.Contains(t.Policy.Roles[trust.RootRole].Principals, principal) || slices.Contains(signers[r.To], principal) {
			continue
		}
		signers[r.To] = append(signers[r.To], principal)
		slices.Sort(signers[r.To])
	}
	return signers
}

// reanchorTargets gives the commits that the newest accepted revision may be left for: those that enough root principals of
// the trust in force signed a record for, and that were not followed before.
func (w *walk) reanchorTargets() (map[string]bool, error) {
	note, err := w.notes.of(w.state.Accepted)
	if err != nil || len(note.Reanchors) == 0 {
		return nil, err
	}
	targets := map[string]bool{}
	for to, who := range reanchorSigners(w.state, w.trust, note) {
		if len(who) >= w.trust.Policy.Roles[trust.RootRole].Threshold && !slices.Contains(w.state.Reanchored, Reanchoring{From: w.state.Accepted, To: to}) {
			targets[to] = true
		}
	}
	return targets, nil
}

// reanchor takes a commit's word for everything but the fleet's id and its date.
func (w *walk) reanchor(ctx context.Context, to string) error {
	next, err := anchored(ctx, w.reader, to)
	if err != nil {
		return err
	}
	if err := sameFleet(w.state.Fleet, next.Fleet); err != nil {
		return err
	}
	if err := w.checkAhead(to, next.Floor); err != nil {
		return err
	}
	if next.Floor > w.state.Floor+int64(MaxStep.Seconds()) {
		return reject(CommitDateImplausible, "commit %s is dated %s, more than five years after the newest accepted revision", short(to), unix(next.Floor).Format(dateLayout))
	}
	record := Reanchoring{From: w.state.Accepted, To: to}
	next.Reanchored = append(w.state.Reanchored, record)
	next.Countersignatures = w.state.Countersignatures
	next.Generation = w.state.Generation
	w.state, w.verdict.Reanchored = next, &record
	w.trust, err = parseTrust(next.Trust)
	return err
}

func sameFleet(have, next string) error {
	if have == next {
		return nil
	}
	return reject(FleetChanged, "%s/%s names fleet %q, and this is fleet %q: a fleet's id never changes", trust.Folder, trust.PolicyFile, next, have)
}

// names lists names for a message.
func names(list []string) string {
	if len(list) == 0 {
		return "nobody"
	}
	return strings.Join(list, ", ")
}

// dateLayout is how messages show a date.
const dateLayout = "2006-01-02 15:04:05 UTC"

func commitName(c *commit) string { return fmt.Sprintf("commit %s (%q)", short(c.id), c.subject) }
