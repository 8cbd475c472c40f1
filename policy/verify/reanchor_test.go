package verify_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify"
	vt "github.com/holdfast-dev/holdfast/policy/verify/verifytest"
)

// rewritten gives a repo whose branch no longer holds the revision that a node accepted, and that node's state. The new branch begins
// with a commit of its own.
func rewritten(t *testing.T) (r *vt.Repo, s verify.State, to string) {
	t.Helper()
	r = newRepo(t)
	r.Push("alice", cue("a secret that had to go"))
	s = accepted(t, r, enrol(t, r))
	to = r.Commit(vt.Commit{Parents: []string{}, Files: r.TrustFiles(policy()), By: r.Key("alice")})
	r.Push("alice", cue("on the new branch"))
	return r, s, to
}

func TestReanchor(t *testing.T) {
	r, s, to := rewritten(t)
	rejected(t, r, s, verify.NotDescendant)
	r.Reanchor(s.Accepted, to, "alice", "carol")
	v := judge(t, r, s)
	if !v.Accepted || v.State.Anchor != to || v.State.Accepted != r.Tip() || v.State.Generation != s.Generation+1 || v.Reanchored == nil || v.Reanchored.To != to {
		t.Fatalf("verdict is %s: %s, state %+v", v.Reason, v.Message, v.State)
	}
	if !slices.Equal(v.State.Reanchored, []verify.Reanchoring{{From: s.Accepted, To: to}}) || v.State.Files != 3 {
		t.Fatalf("state is %+v", v.State)
	}
	r.Push("bob", cue("and on"))
	accepted(t, r, v.State)
}

func TestReanchorToTheTip(t *testing.T) {
	r, s, _ := rewritten(t)
	r.Reanchor(s.Accepted, r.Tip(), "alice", "bob")
	if got := accepted(t, r, s); got.Anchor != r.Tip() {
		t.Fatalf("anchor is %s", got.Anchor)
	}
}

func TestReanchorRefused(t *testing.T) {
	for name, c := range map[string]struct {
		build  func(r *vt.Repo, from, to string)
		reason string
	}{
		"too few":               {func(r *vt.Repo, from, to string) { r.Reanchor(from, to, "alice") }, verify.NotDescendant},
		"one of them twice":     {func(r *vt.Repo, from, to string) { r.Reanchor(from, to, "alice", "alice") }, verify.NotDescendant},
		"not of root":           {func(r *vt.Repo, from, to string) { r.Reanchor(from, to, "alice", "dora") }, verify.NotDescendant},
		"unknown keys":          {func(r *vt.Repo, from, to string) { r.Reanchor(from, to, "mallory", "trudy") }, verify.NotDescendant},
		"from another commit":   {func(r *vt.Repo, from, to string) { r.Reanchor(r.Anchor(), to, "alice", "bob") }, verify.NotDescendant},
		"to elsewhere":          {func(r *vt.Repo, from, to string) { r.Reanchor(from, r.Anchor(), "alice", "bob") }, verify.NotDescendant},
		"moved to another note": {moveRecord, verify.NotDescendant},
		"a record of another fleet": {func(r *vt.Repo, from, to string) {
			for _, p := range []string{"alice", "bob"} {
				line, err := verify.Reanchor(from, to, "dulse", r.Key(p))
				if err != nil {
					panic(err)
				}
				r.Note(from, line)
			}
		}, verify.NotDescendant},
		"the new branch is of another fleet": {func(r *vt.Repo, from, _ string) {
			p := policy()
			p.Fleet = "dulse"
			r.Reanchor(from, r.Commit(vt.Commit{Parents: []string{}, Files: r.TrustFiles(p), By: r.Key("alice")}), "alice", "bob")
		}, verify.FleetChanged},
		"the new branch has no trust": {func(r *vt.Repo, from, _ string) {
			r.Reanchor(from, r.Commit(vt.Commit{Parents: []string{}, Files: cue("x"), By: r.Key("alice")}), "alice", "bob")
		}, verify.TrustInvalid},
		"the new branch has a submodule": {func(r *vt.Repo, from, _ string) {
			c := vt.Commit{Parents: []string{}, Files: r.TrustFiles(policy()), Submodules: vt.Files{"sub": r.Anchor()}, By: r.Key("alice")}
			r.Reanchor(from, r.Commit(c), "alice", "bob")
		}, verify.TreeInvalid},
		"the new branch is of 2099": {func(r *vt.Repo, from, _ string) {
			c := vt.Commit{Parents: []string{}, Files: r.TrustFiles(policy()), By: r.Key("alice"), Date: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)}
			r.Reanchor(from, r.Commit(c), "alice", "bob")
		}, verify.CommitDateImplausible},
		"unsigned behind it": {func(r *vt.Repo, from, to string) {
			r.Reanchor(from, to, "alice", "bob")
			r.PushUnsigned(cue("x"))
		}, verify.Unsigned},
	} {
		t.Run(name, func(t *testing.T) {
			r, s, to := rewritten(t)
			c.build(r, s.Accepted, to)
			rejected(t, r, s, c.reason)
		})
	}
}

// moveRecord puts a good record about the anchor under the accepted commit.
func moveRecord(r *vt.Repo, from, to string) {
	for _, p := range []string{"alice", "bob"} {
		line, err := verify.Reanchor(r.Anchor(), to, vt.Fleet, r.Key(p))
		if err != nil {
			panic(err)
		}
		r.Note(from, line)
	}
}

// TestReanchorIsNotReplayed: after a way there and a way back, the record for the way there does not serve again.
func TestReanchorIsNotReplayed(t *testing.T) {
	r, s, _ := rewritten(t)
	a, b := s.Accepted, r.Tip()
	r.Reanchor(a, b, "alice", "bob")
	s = accepted(t, r, s)
	r.SetRef("refs/heads/main", a)
	r.Reanchor(b, a, "alice", "bob")
	s = accepted(t, r, s)
	r.SetRef("refs/heads/main", b)
	rejected(t, r, s, verify.NotDescendant)
}

// TestReanchorLowersTheFloor: what a wrong clock did is undone by a record, whose keys are judged at the floor.
func TestReanchorLowersTheFloor(t *testing.T) {
	r := newRepo(t)
	late := vt.Start.AddDate(4, 0, 0)
	r.Commit(vt.Commit{Files: cue("x"), By: r.Key("alice"), Date: late})
	s := accepted(t, r, enrol(t, r))
	if s.Floor != late.Unix() {
		t.Fatalf("floor is %d", s.Floor)
	}
	to := r.Commit(vt.Commit{Parents: []string{r.Anchor()}, Files: cue("y"), By: r.Key("alice"), Date: vt.Start.Add(time.Hour)})
	r.Reanchor(s.Accepted, to, "bob", "carol")
	if s = accepted(t, r, s); s.Floor != vt.Start.Add(time.Hour).Unix() {
		t.Fatalf("floor is %d", s.Floor)
	}
}

// TestReanchorWithoutTheOldHistory: a clone made since history was rewritten has nothing of the old one.
func TestReanchorWithoutTheOldHistory(t *testing.T) {
	r, s, to := rewritten(t)
	o := &lossy{Repo: r, lost: s.Accepted}
	req := verify.Request{State: s, Tip: r.Tip(), Notes: r.Notes()}
	if v, err := verify.Verify(t.Context(), o, req); err != nil || v.Reason != verify.NotDescendant {
		t.Fatalf("verdict is %+v, %v", v, err)
	}
	r.Reanchor(s.Accepted, to, "alice", "bob")
	req.Notes = r.Notes()
	if v, err := verify.Verify(t.Context(), o, req); err != nil || !v.Accepted {
		t.Fatalf("verdict is %+v, %v", v, err)
	}
}

func TestReanchorInFuture(t *testing.T) {
	r, s, to := rewritten(t)
	r.Reanchor(s.Accepted, to, "alice", "bob")
	v, err := verify.Verify(t.Context(), r, verify.Request{State: s, Tip: to, Notes: r.Notes(), Now: vt.Start.Add(-2 * time.Hour)})
	if err != nil || v.Reason != verify.CommitDateInFuture {
		t.Fatalf("verdict is %+v, %v", v, err)
	}
}

func TestLongHistories(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	for i := range 25 {
		r.Push("alice", cue(strings.Repeat("x", i)))
	}
	ask := func(l verify.Limits) verify.Verdict {
		v, err := verify.Verify(t.Context(), r, verify.Request{State: s, Tip: r.Tip(), Limits: l})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if v := ask(verify.Limits{Commits: 24}); v.Reason != verify.HistoryTooLong {
		t.Fatalf("verdict is %s", v.Reason)
	}
	if v := ask(verify.Limits{Commits: 25, Reported: 4}); !v.Accepted || len(v.Commits) != 4 || v.Commits[3].Commit != r.Tip() {
		t.Fatalf("verdict is %s with %d commits", v.Reason, len(v.Commits))
	}
}

func TestNotesAreBounded(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	c := r.MergeRequest(cue("x"), nil)
	for range 3 {
		r.CountersignFor("dulse", c, r.Key("bob"))
	}
	r.Countersign(c, "bob")
	ask := func(l verify.Limits) string {
		v, err := verify.Verify(t.Context(), r, verify.Request{State: s, Tip: r.Tip(), Notes: r.Notes(), Limits: l})
		if err != nil {
			t.Fatal(err)
		}
		return v.Reason
	}
	for _, got := range []struct {
		have, want string
	}{
		{ask(verify.Limits{NoteSignatures: 4}), verify.Accepted},
		{ask(verify.Limits{NoteSignatures: 3}), verify.Unsigned},
		{ask(verify.Limits{NoteBytes: 100}), verify.Unsigned},
		{ask(verify.Limits{}), verify.Accepted},
	} {
		if got.have != got.want {
			t.Fatalf("got %s, want %s", got.have, got.want)
		}
	}
}

// TestHugeNotesFolder: whoever can write notes could make every lookup dear; such a folder is passed over.
func TestHugeNotesFolder(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	c := r.MergeRequest(cue("x"), nil)
	r.Countersign(c, "bob")
	accepted(t, r, s)
	entries := r.Entries(r.TreeOf(r.Notes()))
	blob := entries[0].ID
	for i := range 20_000 {
		entries = append(entries, vt.Entry{Mode: "100644", Name: fmt.Sprintf("z%060d", i), ID: blob})
	}
	r.WriteNotes(r.Tree(entries...))
	rejected(t, r, s, verify.Unsigned)
}

// TestNotesOfOthers: lines that are not ours, and notes merged by lines, do no harm.
func TestNotesOfOthers(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	c := r.MergeRequest(vt.Files{"trust/README.md": "x"}, nil)
	r.Note(c, "Reviewed-by: someone\n\x00\xff\ncountersignature\ncountersignature !!!\nre-anchor x y\ncountersignature AAAA")
	r.Countersign(c, "bob", "alice")
	lines := slices.Sorted(strings.Lines(note(t, r, c)))
	r.SetNote(c, strings.Join(lines, ""))
	accepted(t, r, s)
}

func note(t *testing.T, r *vt.Repo, commit string) string {
	t.Helper()
	n, text, err := verify.ReadNote(r, r.Notes(), commit, verify.Limits{})
	if err != nil || len(n.Countersignatures) != 3 {
		t.Fatalf("note is %q with %d countersignatures, %v", text, len(n.Countersignatures), err)
	}
	return string(text)
}

// TestStateSurvivesJSON: what a node stores serves as well as what it had.
func TestStateSurvivesJSON(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	r.Countersign(r.MergeRequest(cue("x"), nil), "bob")
	s = accepted(t, r, s)
	back := roundTrip(t, s)
	if back.Accepted != s.Accepted || !bytes.Equal(back.Trust[trust.PolicyFile], s.Trust[trust.PolicyFile]) {
		t.Fatalf("got %+v", back)
	}
	r.Push("alice", cue("y"))
	accepted(t, r, back)
}
