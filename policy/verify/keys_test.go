package verify_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify"
	vt "github.com/holdfast-dev/holdfast/policy/verify/verifytest"
)

// TestRotations has a node sleep through three changes of trust, each of which makes the next one's signers.
func TestRotations(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	stolen := r.Key("alice")
	r.Countersign(rotate(r, "alice", "alice"), "bob")
	r.Countersign(rotate(r, "bob", "bob"), "carol")
	r.Countersign(rotate(r, "carol", "carol"), "alice")
	r.Push("alice", cue("by the new key"))
	next := accepted(t, r, s)

	t.Run("in order", func(t *testing.T) {
		v := judge(t, r, s)
		var signers []string
		for _, c := range v.Commits {
			signers = append(signers, c.Signer)
		}
		if !slices.Equal(signers, []string{"alice", "bob", "carol", "alice"}) {
			t.Fatalf("signers are %v", signers)
		}
	})
	t.Run("a revoked key", func(t *testing.T) {
		r.Commit(vt.Commit{Files: cue("by the old key"), By: stolen})
		rejected(t, r, next, verify.UnknownKey)
		rejected(t, r, s, verify.UnknownKey)
	})
}

// rotate gives a principal a fresh key, in a commit signed with the key that by had before it.
func rotate(r *vt.Repo, by, principal string) string {
	signer := r.Key(by)
	r.NewKeyFor(principal)
	c := r.Commit(vt.Commit{Files: r.TrustFiles(policy()), By: signer})
	return c
}

func TestKeyValidity(t *testing.T) {
	expiry := vt.Start.AddDate(0, 1, 0)
	r := newRepo(t)
	s := enrol(t, r)
	entry := r.Key("alice").AllowedSigner()
	entry.ValidAfter, entry.ValidBefore = vt.Start.Add(24*time.Hour), expiry
	onlyGit := r.Key("bob").AllowedSigner()
	onlyGit.Namespaces = []string{"git"}
	signers := trust.FormatSigners([]trust.Signer{entry, onlyGit, r.Key("carol").AllowedSigner(), r.Key("dora").AllowedSigner()})
	r.Countersign(r.Push("alice", vt.Files{"trust/allowed_signers": string(signers)}), "bob")
	s = accepted(t, r, s)
	base := r.Tip()
	for name, c := range map[string]struct {
		date   time.Time
		reason string
	}{
		"before":    {entry.ValidAfter.Add(-time.Second), verify.KeyNotValid},
		"from then": {entry.ValidAfter, verify.Accepted},
		"until":     {expiry, verify.Accepted},
		"after":     {expiry.Add(time.Second), verify.KeyNotValid},
	} {
		t.Run(name, func(t *testing.T) {
			r.Commit(vt.Commit{Parents: []string{base}, Files: cue(name), By: r.Key("alice"), Date: c.date})
			if v := judge(t, r, s); v.Reason != c.reason {
				t.Fatalf("verdict is %s: %s", v.Reason, v.Message)
			}
		})
	}
	t.Run("namespace", func(t *testing.T) {
		r.Countersign(r.Commit(vt.Commit{Parents: []string{base}, Files: cue("x")}), "bob")
		v := rejected(t, r, s, verify.Unsigned)
		if !strings.Contains(v.Commits[0].Ignored[0], `may not sign in namespace "holdfast-countersign"`) {
			t.Fatalf("ignored %q", v.Commits[0].Ignored)
		}
	})
}

func TestClock(t *testing.T) {
	r := newRepo(t)
	s := enrol(t, r)
	r.Commit(vt.Commit{Files: cue("x"), By: r.Key("alice"), Date: vt.Start.Add(2 * time.Hour)})
	for _, c := range []struct {
		name   string
		now    time.Time
		reason string
	}{
		{"no clock", time.Time{}, verify.Accepted},
		{"an hour ahead", vt.Start.Add(time.Hour), verify.Accepted},
		{"more than an hour ahead", vt.Start.Add(time.Hour - time.Second), verify.CommitDateInFuture},
		{"a decade late", vt.Start.AddDate(10, 0, 0), verify.Accepted},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := verify.Verify(t.Context(), r, verify.Request{State: s, Tip: r.Tip(), Now: c.now})
			if err != nil || v.Reason != c.reason {
				t.Fatalf("verdict is %s: %s, %v", v.Reason, v.Message, err)
			}
		})
	}
}
