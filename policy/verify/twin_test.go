package verify_test

import (
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/policy/verify"
	vt "github.com/holdfast-dev/holdfast/policy/verify/verifytest"
)

func judgeTip(t *testing.T, r *vt.Repo, s verify.State, tip string) verify.Verdict {
	t.Helper()
	v, err := verify.Verify(t.Context(), r, verify.Request{State: s, Tip: tip})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A Git server that encodes a signature anew makes another commit of it, with the same content and a signature that counts.
// Nodes that were given different ones must meet again on the next commit, without a re-anchor record for each.
func TestCommitsUnderOtherIds(t *testing.T) {
	const end = " -----END SSH SIGNATURE-----\n"
	encode := map[string]func(raw string) string{
		"an empty line behind the armor": func(raw string) string { return strings.Replace(raw, end, end+" \n", 1) },
		"other line lengths": func(raw string) string {
			before, body, _ := strings.Cut(raw, "BEGIN SSH SIGNATURE-----\n ")
			return before + "BEGIN SSH SIGNATURE-----\n " + body[:10] + "\n " + body[10:]
		},
		"another place among the headers": func(raw string) string {
			from, to := strings.Index(raw, "gpgsig "), strings.Index(raw, end)+len(end)
			return raw[:from] + "encoding UTF-8\n" + raw[from:to] + strings.TrimPrefix(raw[to:], "encoding UTF-8\n")
		},
	}
	for name, change := range encode {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			state := enrol(t, r)
			real := r.Commit(vt.Commit{Files: vt.Files{"fleet.cue": "a: 1\n"}, By: r.Key("alice"), Headers: "encoding UTF-8\n"})
			twin := r.Write("commit", []byte(change(string(r.Raw(real)))))
			if twin == real {
				t.Fatal("the commit is the same")
			}
			v := judgeTip(t, r, state, twin)
			if !v.Accepted {
				t.Fatalf("%s: %s", v.Reason, v.Message)
			}
			back := judgeTip(t, r, v.State, real)
			if !back.Accepted || back.State.Accepted != real {
				t.Errorf("the commit itself: %s: %s", back.Reason, back.Message)
			}
			next := r.Push("alice", vt.Files{"fleet.cue": "a: 2\n"})
			v = judgeTip(t, r, v.State, next)
			if !v.Accepted || v.State.Accepted != next {
				t.Errorf("what builds on the commit: %s: %s", v.Reason, v.Message)
			}
		})
	}
}

func TestTwinsProveThemselves(t *testing.T) {
	r := newRepo(t)
	state := enrol(t, r)
	real := r.Push("alice", vt.Files{"fleet.cue": "a: 1\n"})
	state = accepted(t, r, state)
	raw := string(r.Raw(real))
	end := " -----END SSH SIGNATURE-----\n"
	from, to := strings.Index(raw, "gpgsig "), strings.Index(raw, end)+len(end)
	bare := r.Write("commit", []byte(raw[:from]+raw[to:]))
	if v := judgeTip(t, r, state, bare); v.Accepted || v.Reason != verify.NotDescendant {
		t.Errorf("without its signature: %+v", v)
	}
	other := r.Write("commit", []byte(strings.Replace(raw, "\nchange\n", "\nchanged\n", 1)))
	if v := judgeTip(t, r, state, other); v.Accepted || v.Reason != verify.NotDescendant {
		t.Errorf("with another message: %+v", v)
	}
}

// A Git server can hang sixty-four signatures that do not count on each of ten thousand commits: what a verdict says of them
// stays small.
func TestIgnoredIsBounded(t *testing.T) {
	r := newRepo(t)
	state := enrol(t, r)
	tip := r.Push("alice", vt.Files{"fleet.cue": "a: 1\n"})
	for range 60 {
		r.CountersignFor("another", tip, r.Key("bob"))
	}
	v := judge(t, r, state)
	ignored := v.Commits[len(v.Commits)-1].Ignored
	if !v.Accepted || len(ignored) > 9 || !strings.HasPrefix(ignored[len(ignored)-1], "and ") {
		t.Errorf("%t, %q", v.Accepted, ignored)
	}
}
