package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

type verifyOptions struct {
	repo, anchor, notes, format string
}

func newVerifyCommand(env *cli.Env) *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify [REV|OLD..NEW]",
		Short: "Say who signed what, and whether nodes would accept it",
		Long: `Verify judges commits as a node does: every commit of the first-parent path must be signed, or countersigned, by those
who may change what it changes, by the trust/ of its first parent. Unlike a node it also refuses commits dated more
than an hour ahead of now.

REV (default HEAD) is verified from the anchor, a commit that someone vouched for: give it with --anchor. Without it the
first commit that has trust/ is taken at its word. OLD..NEW is what a node says of NEW that has accepted OLD; OLD is
taken at its word, or with --anchor verified first. An OLD of zeros, as hooks get it for a new branch, is no OLD.

In a pre-receive hook it sees the objects that are being pushed. Countersignatures are read from refs/notes/holdfast;
a clone has them after "git fetch origin refs/notes/holdfast:refs/notes/holdfast".

It ends with 1 if the verdict is Rejected. docs/reasons.md says what to do about each reason.`,
		Example: `  holdfast verify --anchor 3f2a91c
  holdfast verify origin/main..HEAD
  holdfast verify "$old..$new"          in a pre-receive hook`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			rev := "HEAD"
			if len(args) > 0 {
				rev = args[0]
			}
			return runVerify(cmd.Context(), env, o, rev)
		},
	}
	repoFlag(cmd, &o.repo)
	cmd.Flags().StringVar(&o.anchor, "anchor", "", "the commit to begin at, vouched for out of band")
	cmd.Flags().StringVar(&o.notes, "notes", source.NotesRef, "where countersignatures are")
	formatFlag(cmd, &o.format, "text", "json")
	return cmd
}

func runVerify(ctx context.Context, env *cli.Env, o verifyOptions, rev string) error {
	g, err := openSigned(env, o.repo, o.notes)
	if err != nil {
		return err
	}
	defer g.close()
	span, err := g.span(rev, o.anchor)
	if err != nil {
		return err
	}
	progress := env.Progress("verifying")
	v, err := g.verify(ctx, span)
	progress.Stop()
	if err != nil {
		return err
	}
	if o.format == "json" {
		err = printVerdictJSON(env, v)
	} else {
		err = printVerdict(env, span, v)
	}
	if err == nil && !v.Accepted {
		err = cli.Shown(errors.New(v.Reason))
	}
	return err
}

// span is what is verified: the commits from begin, which is believed, to tip.
type span struct {
	begin, tip string
	// anchor, if set, is where to verify begin itself from. Else begin is taken at its word.
	anchor string
	// how says why begin is believed.
	how string
}

// span reads REV or OLD..NEW.
func (g *signedRepo) span(rev, anchor string) (span, error) {
	old, tip, isRange := strings.Cut(rev, "..")
	if !isRange {
		tip = rev
	}
	if isZero(tip) {
		return span{}, errors.New("the branch would be deleted: nodes could not follow it any more")
	}
	var s span
	var err error
	if s.tip, err = g.repo.Resolve(orHead(tip)); err != nil {
		return s, err
	}
	switch {
	case isRange && !isZero(old) && anchor != "":
		if s.begin, err = g.repo.Resolve(orHead(old)); err != nil {
			return s, err
		}
		s.anchor, err = g.repo.Resolve(anchor)
		s.how = "verified from the anchor"
	case isRange && !isZero(old):
		s.how = "taken at its word"
		s.begin, err = g.repo.Resolve(orHead(old))
	case anchor != "":
		s.how = "the anchor"
		s.begin, err = g.repo.Resolve(anchor)
	default:
		s.how = "the first commit with trust/, taken at its word; --anchor names one that someone vouched for"
		s.begin, err = g.firstTrusted(s.tip)
	}
	return s, err
}

// isZero tells Git's all-zero id, which stands in hooks for a branch that is not there.
func isZero(rev string) bool { return len(rev) >= 40 && strings.Trim(rev, "0") == "" }

func orHead(rev string) string {
	if rev == "" {
		return "HEAD"
	}
	return rev
}

// firstTrusted goes back from the tip along first parents as long as there is a trust/.
func (g *signedRepo) firstTrusted(tip string) (string, error) {
	first := ""
	for id := tip; id != ""; {
		_, ok, err := g.repo.At(id, trust.Folder)
		if err != nil {
			return "", err
		}
		if !ok {
			break
		}
		first = id
		if id, err = g.firstParent(id); err != nil {
			return "", err
		}
	}
	if first == "" {
		return "", fmt.Errorf("commit %s has no %s/: holdfast init makes it", tip[:12], trust.Folder)
	}
	return first, nil
}

// verify gives the verdict on a span: that of a node which was enrolled at the anchor, accepted begin, and is offered tip.
func (g *signedRepo) verify(ctx context.Context, s span) (verify.Verdict, error) {
	first := s.begin
	if s.anchor != "" {
		first = s.anchor
	}
	state, err := verify.Enrol(g.objects, first)
	var r *verify.Rejection
	if errors.As(err, &r) {
		return verify.Verdict{Reason: r.Reason, Message: fmt.Sprintf("commit %s cannot be begun at: %s", first[:12], r.Message), Commit: first}, nil
	}
	if err != nil {
		return verify.Verdict{}, err
	}
	request := verify.Request{State: state, Tip: s.begin, Notes: g.notes, Now: time.Now()}
	if s.anchor != "" {
		v, err := verify.Verify(ctx, g.objects, request)
		if err != nil || !v.Accepted {
			return v, err
		}
		request.State = v.State
	}
	request.Tip = s.tip
	return verify.Verify(ctx, g.objects, request)
}

func printVerdictJSON(env *cli.Env, v verify.Verdict) error {
	out := struct {
		Accepted   bool                `json:"accepted"`
		Reason     string              `json:"reason"`
		Message    string              `json:"message"`
		Commit     string              `json:"commit"`
		Reanchored *verify.Reanchoring `json:"reanchored,omitempty"`
		Commits    []verify.Signed     `json:"commits"`
	}{v.Accepted, v.Reason, v.Message, v.Commit, v.Reanchored, append([]verify.Signed{}, v.Commits...)}
	enc := json.NewEncoder(env.Out)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

func printVerdict(env *cli.Env, s span, v verify.Verdict) error {
	if len(v.Commits) > 0 {
		w := tabwriter.NewWriter(env.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "COMMIT\tDATE\tSIGNED BY\tCOUNTERSIGNED BY\tROLES\tVERDICT\tSUBJECT")
		for _, c := range v.Commits {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Commit[:12], c.Date.UTC().Format("2006-01-02 15:04"),
				orDash(c.Signer), orDash(strings.Join(c.Countersigners, ",")), orDash(strings.Join(c.Roles, ",")), c.Reason, c.Subject)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		fmt.Fprintln(env.Out)
	}
	fmt.Fprintf(env.Out, "begins at %s (%s)\n", s.begin[:12], s.how)
	if v.Reanchored != nil {
		fmt.Fprintf(env.Out, "re-anchored from %s to %s\n", v.Reanchored.From[:12], v.Reanchored.To[:12])
	}
	if v.Accepted {
		_, err := fmt.Fprintf(env.Out, "Accepted: %s, up to %s\n", plural(len(v.Commits), "commit"), s.tip[:12])
		return err
	}
	fmt.Fprintf(env.Out, "Rejected: %s: %s\n", v.Reason, v.Message)
	i := slices.IndexFunc(v.Commits, func(c verify.Signed) bool { return c.Commit == v.Commit })
	if i >= 0 {
		for _, line := range v.Commits[i].Ignored {
			fmt.Fprintf(env.Out, "  does not count: %s\n", line)
		}
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
