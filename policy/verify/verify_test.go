package verify_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify"
	vt "github.com/holdfast-dev/holdfast/policy/verify/verifytest"
)

// policy has a root that takes two, a role for everything else and one for a team's pool.
func policy() trust.Policy {
	return trust.Policy{Fleet: vt.Fleet, Roles: map[string]trust.Role{
		trust.RootRole: {Principals: []string{"alice", "bob", "carol"}, Threshold: 2, Paths: []string{"trust/**"}},
		"ops":          {Principals: []string{"alice", "bob"}, Threshold: 1, Paths: []string{"*.cue", "pools/**"}},
		"berlin":       {Principals: []string{"dora"}, Threshold: 1, Paths: []string{"pools/berlin/**"}},
	}}
}

func newRepo(t testing.TB) *vt.Repo {
	return vt.New(t, vt.InMemory(), vt.WithPolicy(policy()), vt.WithFiles(vt.Files{"fleet.cue": "package fleet\n", "pools/rome/pool.cue": "package fleet\n"}))
}

func enrol(t testing.TB, r *vt.Repo) verify.State {
	t.Helper()
	s, err := verify.Enrol(r, r.Anchor())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func judge(t testing.TB, r *vt.Repo, s verify.State) verify.Verdict {
	t.Helper()
	v, err := verify.Verify(t.Context(), r, verify.Request{State: s, Tip: r.Tip(), Notes: r.Notes()})
	if err != nil {
		t.Fatal(err)
	}
	sameInSteps(t, r, s, v)
	return v
}

func accepted(t testing.TB, r *vt.Repo, s verify.State) verify.State {
	t.Helper()
	v := judge(t, r, s)
	if !v.Accepted {
		t.Fatalf("rejected: %s: %s", v.Reason, v.Message)
	}
	if v.Reason != verify.Accepted || v.State.Accepted != r.Tip() || v.State.Generation != s.Generation+1 {
		t.Fatalf("accepted with reason %q and state %+v", v.Reason, v.State)
	}
	return v.State
}

// rejected wants the reason, nothing changed, and a message that holds the words.
func rejected(t testing.TB, r *vt.Repo, s verify.State, reason string, words ...string) verify.Verdict {
	t.Helper()
	v := judge(t, r, s)
	if v.Accepted || v.Reason != reason {
		t.Fatalf("verdict is %s: %s; want %s", v.Reason, v.Message, reason)
	}
	if v.State.Accepted != s.Accepted || v.State.Generation != s.Generation {
		t.Fatal("a rejected revision changed the state")
	}
	for _, w := range words {
		if !strings.Contains(v.Message, w) {
			t.Fatalf("message %q does not say %q", v.Message, w)
		}
	}
	return v
}

func cue(text string) vt.Files { return vt.Files{"fleet.cue": "package fleet\n// " + text + "\n"} }

// TestRejected has one case for each way a revision can be bad. Each builds on a good anchor.
func TestRejected(t *testing.T) {
	for name, c := range map[string]struct {
		build  func(r *vt.Repo)
		reason string
		words  []string
	}{
		"unsigned": {func(r *vt.Repo) { r.PushUnsigned(cue("x")) }, verify.Unsigned, []string{"it carries no signature", "holdfast countersign"}},
		"unsigned under a signed one": {func(r *vt.Repo) {
			r.PushUnsigned(cue("x"))
			r.Push("alice", cue("y"))
		}, verify.Unsigned, nil},
		"a forge's merge, unsigned": {func(r *vt.Repo) { r.MergeRequest(cue("x"), nil) }, verify.Unsigned, nil},
		"a forge's merge with the forge's key": {func(r *vt.Repo) { r.MergeRequest(cue("x"), r.Key("forge")) },
			verify.UnknownKey, []string{"ssh-ed25519 key SHA256:", "which no principal holds"}},
		"unknown key": {func(r *vt.Repo) { r.Push("mallory", cue("x")) }, verify.UnknownKey, nil},
		"another role's path": {func(r *vt.Repo) { r.Push("alice", vt.Files{"pools/berlin/pool.cue": "x"}) },
			verify.PathNotPermitted, []string{"pools/berlin/pool.cue, which belongs to role berlin (dora)", "signed by alice"}},
		"another role's path, removed": {func(r *vt.Repo) {
			r.Push("dora", vt.Files{"pools/berlin/pool.cue": "x"})
			r.Commit(vt.Commit{Remove: []string{"pools/berlin"}, By: r.Key("alice")})
		}, verify.PathNotPermitted, nil},
		"the wide role's path by the narrow role": {func(r *vt.Repo) { r.Push("dora", cue("x")) }, verify.PathNotPermitted, nil},
		"path of no role":                         {func(r *vt.Repo) { r.Push("alice", vt.Files{"README.md": "x"}) }, verify.PathNotPermitted, []string{"belongs to no role"}},
		"one path of two not permitted": {func(r *vt.Repo) {
			r.Push("alice", vt.Files{"fleet.cue": "x", "pools/berlin/pool.cue": "x"})
		}, verify.PathNotPermitted, nil},
		"trust without the threshold": {func(r *vt.Repo) {
			p := policy()
			p.Roles["ops"] = trust.Role{Principals: []string{"alice"}, Threshold: 1, Paths: []string{"*.cue", "pools/**"}}
			r.Push("alice", r.TrustFiles(p))
		}, verify.ThresholdNotMet, []string{"takes 2 of role root (alice, bob, carol)", "signed by alice"}},
		"a commit that lets itself in": {func(r *vt.Repo) {
			p := policy()
			p.Roles[trust.RootRole] = trust.Role{Principals: []string{"mallory", "trudy"}, Threshold: 1, Paths: []string{"trust/**"}}
			r.Countersign(r.Push("mallory", r.TrustFiles(p)), "trudy")
		}, verify.UnknownKey, nil},
		"a merge of another role's signed change": {func(r *vt.Repo) {
			side := r.Commit(vt.Commit{Files: vt.Files{"pools/berlin/pool.cue": "x"}, By: r.Key("dora"), Detached: true})
			r.Commit(vt.Commit{Files: vt.Files{"pools/berlin/pool.cue": "x"}, Merge: []string{side}, By: r.Key("alice")})
		}, verify.PathNotPermitted, nil},
		"trust by someone else": {func(r *vt.Repo) { r.Push("dora", vt.Files{"trust/README.md": "x"}) }, verify.PathNotPermitted, nil},
		"threshold by two countersignatures of one": {func(r *vt.Repo) {
			c := r.Push("alice", vt.Files{"trust/README.md": "x"})
			r.Countersign(c, "alice", "alice")
		}, verify.ThresholdNotMet, nil},
		"countersignature for another fleet": {func(r *vt.Repo) {
			r.CountersignFor("dulse", r.MergeRequest(cue("x"), nil), r.Key("bob"))
		}, verify.Unsigned, nil},
		"countersignature of another commit": {func(r *vt.Repo) {
			first := r.MergeRequest(cue("x"), nil)
			r.Countersign(first, "bob")
			second := r.MergeRequest(cue("y"), nil)
			line, _ := verify.Countersign(r.Raw(first), vt.Fleet, r.Key("bob"))
			r.Note(second, line)
		}, verify.Unsigned, nil},
		"a commit's signature as a countersignature": {func(r *vt.Repo) {
			c := r.MergeRequest(cue("x"), nil)
			message := append([]byte("holdfast countersignature 1\nfleet "+vt.Fleet+"\n\n"), r.Raw(c)...)
			armored := vt.SSHSignature(t, r.Key("bob"), trust.NamespaceGit, message)
			lines := strings.Split(strings.TrimSpace(armored), "\n")
			r.Note(c, "countersignature "+strings.Join(lines[1:len(lines)-1], ""))
		}, verify.Unsigned, nil},
		"countersigned by the wrong role": {func(r *vt.Repo) { r.Countersign(r.MergeRequest(cue("x"), nil), "dora") }, verify.PathNotPermitted, nil},
		"signature over other bytes": {func(r *vt.Repo) {
			other := vt.SSHSignature(r2tb(t), r.Key("alice"), trust.NamespaceGit, []byte("something else"))
			r.Commit(vt.Commit{Files: cue("x"), Headers: vt.Header("gpgsig", other)})
		}, verify.BadSignature, []string{"over other bytes"}},
		"signature for another namespace": {func(r *vt.Repo) {
			other := vt.SSHSignature(r2tb(t), r.Key("alice"), "file", []byte("something else"))
			r.Commit(vt.Commit{Files: cue("x"), Headers: vt.Header("gpgsig", other)})
		}, verify.BadSignature, []string{`made for namespace "file"`}},
		"garbage for a signature": {func(r *vt.Repo) {
			r.Commit(vt.Commit{Files: cue("x"), Headers: vt.Header("gpgsig", "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----")})
		}, verify.BadSignature, nil},
		"garbage for an OpenPGP signature": {func(r *vt.Repo) {
			r.Commit(vt.Commit{Files: cue("x"), Headers: vt.Header("gpgsig", "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----")})
		}, verify.BadSignature, nil},
		"an X.509 signature": {func(r *vt.Repo) {
			r.Commit(vt.Commit{Files: cue("x"), Headers: vt.Header("gpgsig", "-----BEGIN SIGNED MESSAGE-----\nAAAA\n-----END SIGNED MESSAGE-----")})
		}, verify.BadSignature, []string{"neither SSH nor OpenPGP"}},
		"a signature of the other object format": {func(r *vt.Repo) {
			r.Commit(vt.Commit{Files: cue("x"), Headers: vt.Header("gpgsig-sha256", "-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----")})
		}, verify.BadSignature, nil},
		"two signatures": {func(r *vt.Repo) {
			other := vt.SSHSignature(r2tb(t), r.Key("bob"), trust.NamespaceGit, []byte("x"))
			r.Commit(vt.Commit{Files: cue("x"), By: r.Key("alice"), Headers: vt.Header("gpgsig", other)})
		}, verify.MultipleSignatures, nil},
		"two signatures, one of the other object format": {func(r *vt.Repo) {
			other := vt.SSHSignature(r2tb(t), r.Key("bob"), trust.NamespaceGit, []byte("x"))
			r.Commit(vt.Commit{Files: cue("x"), By: r.Key("alice"), Headers: vt.Header("gpgsig-sha256", other)})
		}, verify.MultipleSignatures, nil},
		"two signatures in one header": {func(r *vt.Repo) {
			one := vt.SSHSignature(r2tb(t), r.Key("bob"), trust.NamespaceGit, []byte("x"))
			r.Commit(vt.Commit{Files: cue("x"), Headers: vt.Header("gpgsig", one+one)})
		}, verify.MultipleSignatures, nil},
		"two signatures, countersigned": {func(r *vt.Repo) {
			other := vt.SSHSignature(r2tb(t), r.Key("bob"), trust.NamespaceGit, []byte("x"))
			r.Countersign(r.Commit(vt.Commit{Files: cue("x"), By: r.Key("alice"), Headers: vt.Header("gpgsig", other)}), "bob")
		}, verify.MultipleSignatures, nil},
		"dated before its parent": {func(r *vt.Repo) {
			r.Commit(vt.Commit{Files: cue("x"), By: r.Key("alice"), Date: vt.Start.Add(-time.Second)})
		}, verify.CommitDateBeforeParent, []string{"2025-12-31 23:59:59 UTC", "2026-01-01 00:00:00 UTC"}},
		"dated 2099": {func(r *vt.Repo) {
			r.Commit(vt.Commit{Files: cue("x"), By: r.Key("alice"), Date: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)})
		}, verify.CommitDateImplausible, []string{"2099-01-01"}},
		"history rewritten": {func(r *vt.Repo) {
			r.Commit(vt.Commit{Parents: []string{}, Files: r.TrustFiles(policy()), By: r.Key("alice")})
		}, verify.NotDescendant, []string{"history was rewritten", "holdfast re-anchor"}},
		"the accepted revision as a second parent": {func(r *vt.Repo) {
			root := r.Commit(vt.Commit{Parents: []string{}, Files: r.TrustFiles(policy()), By: r.Key("alice"), Detached: true})
			r.Commit(vt.Commit{Parents: []string{root}, Merge: []string{r.Anchor()}, Files: cue("x"), By: r.Key("alice")})
		}, verify.NotDescendant, nil},
		"trust removed": {func(r *vt.Repo) {
			r.Countersign(r.Commit(vt.Commit{Remove: []string{"trust"}, By: r.Key("alice")}), "bob")
		}, verify.TrustInvalid, []string{"no folder trust/"}},
		"trust that does not parse": {func(r *vt.Repo) {
			r.Countersign(r.Push("alice", vt.Files{"trust/policy.json": "{"}), "bob")
		}, verify.TrustInvalid, []string{"trust/policy.json:1: not JSON"}},
		"trust that could lock everyone out": {func(r *vt.Repo) {
			p := policy()
			p.Roles[trust.RootRole] = trust.Role{Principals: []string{"alice", "bob"}, Threshold: 2, Paths: []string{"trust/**"}}
			r.Countersign(r.Push("alice", r.TrustFiles(p)), "bob")
		}, verify.TrustInvalid, []string{"losing one key would lock everyone out"}},
		"trust with a symlink": {func(r *vt.Repo) {
			r.Countersign(r.Commit(vt.Commit{Symlinks: vt.Files{"trust/README.md": "../fleet.cue"}, By: r.Key("alice")}), "bob")
		}, verify.TrustInvalid, []string{"trust/README.md is not a regular file"}},
		"trust as a file": {func(r *vt.Repo) {
			r.Countersign(r.Commit(vt.Commit{Remove: []string{"trust"}, Files: vt.Files{"trust": "x"}, By: r.Key("alice")}), "bob")
		}, verify.PathNotPermitted, nil},
		"another fleet's id": {func(r *vt.Repo) {
			p := policy()
			p.Fleet = "dulse"
			r.Countersign(r.Push("alice", r.TrustFiles(p)), "bob")
		}, verify.FleetChanged, []string{`names fleet "dulse", and this is fleet "kelp"`}},
		"not a commit": {func(r *vt.Repo) { r.SetRef("refs/heads/main", r.TreeOf(r.Tip())) }, verify.CommitInvalid, []string{"is a tree object, not a commit"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			s := enrol(t, r)
			c.build(r)
			rejected(t, r, s, c.reason, c.words...)
		})
	}
}

// r2tb keeps the table readable: cases are built before their own t exists.
func r2tb(t *testing.T) vt.TB { return t }

func TestAccepted(t *testing.T) {
	for name, build := range map[string]func(r *vt.Repo){
		"signed by the role":  func(r *vt.Repo) { r.Push("alice", cue("x")) },
		"the narrow role":     func(r *vt.Repo) { r.Push("dora", vt.Files{"pools/berlin/pool.cue": "x"}) },
		"nothing changes":     func(r *vt.Repo) { r.Commit(vt.Commit{By: r.Key("dora")}) },
		"a merge by a person": func(r *vt.Repo) { r.MergeRequest(cue("x"), r.Key("alice")) },
		"a forge's merge":     func(r *vt.Repo) { r.Countersign(r.MergeRequest(cue("x"), r.Key("forge")), "bob") },
		"an unsigned merge":   func(r *vt.Repo) { r.Countersign(r.MergeRequest(cue("x"), nil), "alice") },
		"two roles, two people": func(r *vt.Repo) {
			r.Countersign(r.Push("alice", vt.Files{"fleet.cue": "x", "pools/berlin/pool.cue": "x"}), "dora")
		},
		"trust by two": func(r *vt.Repo) { r.Countersign(r.Push("carol", vt.Files{"trust/README.md": "x"}), "alice") },
		"trust, all countersigned": func(r *vt.Repo) {
			r.Countersign(r.MergeRequest(vt.Files{"trust/README.md": "x"}, r.Key("forge")), "alice", "carol")
		},
		"notes in folders": func(r *vt.Repo) {
			r.Countersign(r.MergeRequest(cue("x"), nil), "alice")
			r.FanOutNotes(2)
		},
		"the same date as the parent": func(r *vt.Repo) { r.Commit(vt.Commit{Files: cue("x"), By: r.Key("alice"), Date: vt.Start}) },
		"a symlink inside": func(r *vt.Repo) {
			r.Commit(vt.Commit{Symlinks: vt.Files{"pools/rome/link.cue": "../../fleet.cue"}, By: r.Key("alice")})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			s := enrol(t, r)
			build(r)
			accepted(t, r, s)
		})
	}
}

func TestReplay(t *testing.T) {
	r := newRepo(t)
	old := r.Push("alice", cue("old"))
	r.Push("alice", cue("new"))
	s := accepted(t, r, enrol(t, r))
	r.SetRef("refs/heads/main", old)
	v := rejected(t, r, s, verify.NotDescendant, "an old revision is offered again", "git revert")
	if v.Commit != old {
		t.Fatalf("offending commit is %s, want %s", v.Commit, old)
	}
	if v := judge(t, r, s); v.State.Accepted == old {
		t.Fatal("the state went back")
	}
}

func TestNothingNew(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	v := judge(t, r, s)
	if !v.Accepted || v.State.Generation != s.Generation || len(v.Commits) != 0 || !v.At.Equal(vt.Start) {
		t.Fatalf("verdict is %+v", v)
	}
}

func TestLateCountersignatureReopens(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	merge := r.MergeRequest(cue("x"), r.Key("forge"))
	r.Push("alice", cue("y"))
	if v := rejected(t, r, s, verify.UnknownKey); v.Commit != merge || len(v.Commits) != 1 || v.Commits[0].Reason != verify.UnknownKey {
		t.Fatalf("verdict is %+v", v)
	}
	r.Countersign(merge, "bob")
	s = accepted(t, r, s)
	if len(s.Countersignatures) != 1 || s.Countersignatures[0].Principal != "bob" || s.Countersignatures[0].Commit != merge {
		t.Fatalf("kept %+v", s.Countersignatures)
	}
}

func TestKeptCountersignaturesServeWithoutNotes(t *testing.T) {
	r := newRepo(t)
	first := enrol(t, r)
	r.Countersign(r.MergeRequest(cue("x"), nil), "bob")
	s := accepted(t, r, first)
	r.SetRef(vt.NotesRef, "")
	rejected(t, r, first, verify.Unsigned)
	first.Countersignatures = s.Countersignatures
	accepted(t, r, first)
}

func TestCountersignaturesKeptAreBounded(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	var newest string
	for i := range verify.KeptCountersignatures + 5 {
		newest = r.MergeRequest(cue(fmt.Sprint(i)), nil)
		r.Countersign(newest, "bob")
	}
	s = accepted(t, r, s)
	if n := len(s.Countersignatures); n != verify.KeptCountersignatures || s.Countersignatures[n-1].Commit != newest {
		t.Fatalf("kept %d, the newest of %s", n, s.Countersignatures[n-1].Commit)
	}
}

func TestWhoSignedWhat(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	c := r.Push("alice", vt.Files{"trust/README.md": "x", "fleet.cue": "x"})
	r.Countersign(c, "alice", "carol", "mallory", "carol", "bob")
	r.CountersignFor("dulse", c, r.Key("dora"))
	v := judge(t, r, s)
	if !v.Accepted || len(v.Commits) != 1 {
		t.Fatalf("verdict is %+v", v)
	}
	got := v.Commits[0]
	if got.Signer != "alice" || !strings.HasPrefix(got.Key, "SHA256:") || !slices.Equal(got.Countersigners, []string{"bob", "carol"}) || !slices.Equal(got.Roles, []string{"ops", "root"}) {
		t.Fatalf("got %+v", got)
	}
	want := []string{"by alice, who signed the commit itself", "which no principal holds", "another countersignature by carol", "a key of dora, but over another commit or for another fleet"}
	if len(got.Ignored) != len(want) {
		t.Fatalf("ignored %q", got.Ignored)
	}
	for i, w := range want {
		if !strings.Contains(got.Ignored[i], w) {
			t.Fatalf("ignored %q, want %q", got.Ignored[i], w)
		}
	}
}

func TestEnrolRefuses(t *testing.T) {
	r := vt.New(t, vt.InMemory())
	none := r.Commit(vt.Commit{Parents: []string{}, Files: vt.Files{"a": "b"}, Detached: true})
	for name, c := range map[string]struct{ anchor, reason string }{
		"no trust":     {none, verify.TrustInvalid},
		"a short id":   {r.Anchor()[:12], verify.CommitInvalid},
		"not a commit": {r.TreeOf(r.Anchor()), verify.CommitInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verify.Enrol(r, c.anchor)
			var rej *verify.Rejection
			if !errors.As(err, &rej) || rej.StableReason() != c.reason || rej.Commit != c.anchor {
				t.Fatalf("got %#v", err)
			}
		})
	}
	if _, err := verify.Enrol(r, strings.Repeat("0", 40)); !errors.Is(err, verify.ErrNotFound) {
		t.Fatalf("a missing anchor: %v", err)
	}
}

func TestUnreadableObjectsAreErrors(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	r.Push("alice", cue("x"))
	if _, err := verify.Verify(t.Context(), &lossy{Repo: r, lost: r.TreeOf(r.Tip())}, verify.Request{State: s, Tip: r.Tip()}); !errors.Is(err, verify.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	if _, err := verify.Verify(t.Context(), r, verify.Request{Tip: r.Tip()}); err == nil {
		t.Fatal("a zero state gave a verdict")
	}
}

func TestBrokenNotesStopNobody(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	r.Push("alice", cue("x"))
	blob := r.Write("blob", []byte("x"))
	for name, notes := range map[string]string{
		"missing":          strings.Repeat("1", 40),
		"not an id":        "notes",
		"a blob":           blob,
		"a malformed tree": r.Write("commit", bytes.ReplaceAll(r.Raw(r.Tip()), []byte(r.TreeOf(r.Tip())), []byte(r.Write("tree", []byte("junk"))))),
		"no such tree":     r.Write("commit", bytes.ReplaceAll(r.Raw(r.Tip()), []byte(r.TreeOf(r.Tip())), []byte(strings.Repeat("2", 40)))),
	} {
		t.Run(name, func(t *testing.T) {
			v, err := verify.Verify(t.Context(), r, verify.Request{State: s, Tip: r.Tip(), Notes: notes})
			if err != nil || !v.Accepted {
				t.Fatalf("verdict is %+v, %v", v, err)
			}
		})
	}
}

// lossy has lost one object.
type lossy struct {
	*vt.Repo
	lost string
}

func (l *lossy) Object(id string) (string, []byte, error) {
	if id == l.lost {
		return "", nil, verify.ErrNotFound
	}
	return l.Repo.Object(id)
}
