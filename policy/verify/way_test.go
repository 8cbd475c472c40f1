package verify_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify"
	vt "github.com/holdfast-dev/holdfast/policy/verify/verifytest"
)

// inSteps asks for a verdict in calls of as few commits as there can be, each from what the one before gave, as JSON. It gives
// the last verdict, with what all said of commits, and the states that were accepted on the way.
func inSteps(t testing.TB, r *vt.Repo, s verify.State, segment, commits int) (v verify.Verdict, states []verify.State) {
	t.Helper()
	req := verify.Request{State: s, Tip: r.Tip(), Notes: r.Notes(), Limits: verify.Limits{Segment: segment}}
	var said []verify.Signed
	for calls := 0; ; calls++ {
		asked := 0
		req.Enough = func() bool { asked++; return asked >= commits }
		v, err := verify.Verify(t.Context(), r, req)
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Commits) > max(commits, 1) {
			t.Fatalf("%d commits in one call", len(v.Commits))
		}
		said = append(said, v.Commits...)
		if v.Reason != verify.Unfinished {
			v.Commits = said
			return v, states
		}
		if v.Accepted || v.Progress == nil || calls > 10_000 {
			t.Fatalf("call %d: %+v", calls, v)
		}
		if changed := v.State.Accepted != req.State.Accepted; changed != (v.State.Generation == req.State.Generation+1) {
			t.Fatalf("generation %d after %d", v.State.Generation, req.State.Generation)
		} else if changed {
			states = append(states, v.State)
		}
		raw, err := json.Marshal(verify.Request{State: v.State, Tip: req.Tip, Notes: req.Notes, Limits: req.Limits, Progress: v.Progress})
		if err != nil {
			t.Fatal(err)
		}
		req = verify.Request{}
		if err := json.Unmarshal(raw, &req); err != nil {
			t.Fatal(err)
		}
	}
}

// sameInSteps wants the verdict to be the same when it takes many calls.
func sameInSteps(t testing.TB, r *vt.Repo, s verify.State, want verify.Verdict) {
	t.Helper()
	for _, size := range []struct{ segment, commits int }{{2, 1}, {4096, 3}} {
		got, states := inSteps(t, r, s, size.segment, size.commits)
		if got.Accepted != want.Accepted || got.Reason != want.Reason || got.Message != want.Message || got.Commit != want.Commit || !got.At.Equal(want.At) {
			t.Fatalf("in steps of %v the verdict is %s (%s), in one go %s (%s)", size, got.Reason, got.Message, want.Reason, want.Message)
		}
		if said, wanted := fmt.Sprintf("%+v", got.Commits), fmt.Sprintf("%+v", want.Commits); said != wanted && len(want.Commits) < 100 {
			t.Fatalf("in steps of %v it says of commits\n%s\nin one go\n%s", size, said, wanted)
		}
		if !want.Accepted {
			if len(states) > 0 && got.State.Accepted != states[len(states)-1].Accepted {
				t.Fatalf("a rejected commit changed the state to %s", got.State.Accepted)
			}
			continue
		}
		got.State.Generation = want.State.Generation
		a, errA := json.Marshal(got.State)
		b, errB := json.Marshal(want.State)
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Fatalf("in steps of %v the state is\n%s\nin one go\n%s", size, a, b)
		}
	}
}

// TestFarBehind: a node that is many segments behind comes to the tip call by call; every state on the way is one to go on from,
// through a change of trust, whatever becomes of the calls.
func TestFarBehind(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	ids := []string{r.Anchor()}
	for i := range 30 {
		if i == 14 {
			p := policy()
			p.Roles["ops"] = trust.Role{Principals: []string{"carol", "bob"}, Threshold: 1, Paths: []string{"*.cue", "pools/**"}}
			ids = append(ids, r.Push("alice", r.TrustFiles(p)))
			r.Countersign(r.Tip(), "bob")
		}
		ids = append(ids, r.Push(map[bool]string{true: "alice", false: "carol"}[i < 14], cue(fmt.Sprint(i))))
	}
	v, states := inSteps(t, r, s, 4, 3)
	if !v.Accepted || v.State.Accepted != r.Tip() {
		t.Fatalf("%s: %s", v.Reason, v.Message)
	}
	if len(states) < 8 {
		t.Fatalf("%d states on the way through %d commits", len(states), len(ids))
	}
	at := 0
	for _, s := range states {
		next := slices.Index(ids, s.Accepted)
		if next <= at || next > at+3 {
			t.Fatalf("from commit %d to %d", at, next)
		}
		at = next
		if v := judge(t, r, s); !v.Accepted { // the process ended, and the search begins anew
			t.Fatalf("from commit %d: %s", at, v.Message)
		}
	}
}

// TestFarBehindABadCommit: the verdict names it, and what was accepted before it stays.
func TestFarBehindABadCommit(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	var last, bad string
	for i := range 20 {
		if i == 11 {
			last, bad = r.Tip(), r.PushUnsigned(cue("unsigned"))
			continue
		}
		r.Push("alice", cue(fmt.Sprint(i)))
	}
	rejected(t, r, s, verify.Unsigned)
	v, states := inSteps(t, r, s, 4, 2)
	if v.Accepted || v.Reason != verify.Unsigned || v.Commit != bad || !reflect.DeepEqual(v.State, states[len(states)-1]) {
		t.Fatalf("%+v", v)
	}
	r.SetRef("refs/heads/main", last)
	r.Push("alice", cue("without it"))
	accepted(t, r, v.State)
}

// TestFarBehindAReanchoring: the record is found although the search takes many calls, and followed once.
func TestFarBehindAReanchoring(t *testing.T) {
	r, s, to := rewritten(t)
	for i := range 12 {
		r.Push("alice", cue(fmt.Sprint(i)))
	}
	r.Reanchor(s.Accepted, to, "alice", "bob")
	v, states := inSteps(t, r, s, 3, 2)
	if !v.Accepted || v.State.Anchor != to || len(v.State.Reanchored) != 1 || len(states) < 4 || states[0].Anchor != to {
		t.Fatalf("%s: %s, state %+v, %d on the way", v.Reason, v.Message, v.State, len(states))
	}
	accepted(t, r, s)
}

// TestProgressOfAnotherTip is passed over.
func TestProgressOfAnotherTip(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	r.Push("alice", cue("a"))
	tip := r.Push("alice", cue("b"))
	v, err := verify.Verify(t.Context(), r, verify.Request{State: s, Tip: tip, Progress: &verify.Progress{Tips: []string{r.Anchor()}, Found: true}})
	if err != nil || !v.Accepted || v.State.Accepted != tip || len(v.Commits) != 2 {
		t.Fatalf("%+v, %v", v, err)
	}
}
