package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/cli"
	"github.com/holdfast-dev/holdfast/policy/trust"
	"github.com/holdfast-dev/holdfast/policy/verify"
	"github.com/holdfast-dev/holdfast/reconciler/source"
)

func newCountersignCommand(env *cli.Env) *cobra.Command {
	var dir, key string
	cmd := &cobra.Command{
		Use:   "countersign REV --key FILE",
		Short: "Vouch for a commit that is there already",
		Long: `Countersign signs a whole commit for this fleet and puts the signature into refs/notes/holdfast. That is how a forge's
merge becomes trusted, and how a change gets the number of signatures its role asks for. The commit itself stays as
it is; look at it first: git show REV.

The key must be one of a principal of the trust/ at the commit's first parent.`,
		Example: `  holdfast countersign main --key ~/.ssh/id_ed25519
  holdfast countersign 3f2a91c --key ~/.ssh/id_ed25519_sk.pub     a security key, through ssh-agent
  git push origin refs/notes/holdfast                             then nodes see it`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCountersign(cmd.Context(), env, dir, args[0], key)
		},
	}
	repoFlag(cmd, &dir)
	keyFlag(cmd, &key)
	return cmd
}

func runCountersign(ctx context.Context, env *cli.Env, dir, rev, keyFile string) error {
	g, err := openSigned(env, dir, source.NotesRef)
	if err != nil {
		return err
	}
	defer g.close()
	id, err := g.repo.Resolve(rev)
	if err != nil {
		return err
	}
	before, err := g.single(ctx, id)
	if err != nil {
		return err
	}
	key, err := openKey(env, keyFile)
	if err != nil {
		return err
	}
	defer key.Close()
	who, err := before.trust.SSHPrincipal(key.PublicKey(), trust.NamespaceCountersign, before.signed.Date)
	if err != nil {
		return fmt.Errorf("countersign %s: by the trust/ of its first parent: %w", id[:12], err)
	}
	switch {
	case who == before.signed.Signer:
		return fmt.Errorf("%s signed commit %s itself: a countersignature is someone else's", who, id[:12])
	case slices.Contains(before.signed.Countersigners, who):
		fmt.Fprintf(env.Out, "%s has countersigned commit %s already\n", who, id[:12])
		return before.print(env)
	}
	raw, err := g.commit(id)
	if err != nil {
		return err
	}
	line, err := verify.Countersign(raw, before.state.Fleet, key)
	if err != nil {
		return err
	}
	if err := g.addNote(id, line); err != nil {
		return err
	}
	fmt.Fprintf(env.Out, "countersigned %s (%q) for fleet %s as %s (%s)\n", id[:12], before.signed.Subject, before.state.Fleet, who, fingerprint(key))
	after, err := g.single(ctx, id)
	if err != nil {
		return err
	}
	return after.print(env)
}

// single is one commit as judged by its first parent's trust.
type single struct {
	state   verify.State
	trust   *trust.Trust
	signed  verify.Signed
	verdict verify.Verdict
}

// single judges one commit, taking its first parent at its word.
func (g *signedRepo) single(ctx context.Context, id string) (single, error) {
	parent, err := g.firstParent(id)
	if err != nil {
		return single{}, err
	}
	if parent == "" {
		return single{}, fmt.Errorf("commit %s has no parent: a first commit is not countersigned, it is an anchor that nodes are enrolled with", id[:12])
	}
	var s single
	if s.state, err = verify.Enrol(g.objects, parent); err != nil {
		return s, fmt.Errorf("first parent %s: %w", parent[:12], err)
	}
	if s.trust, err = trust.Parse(s.state.Trust); err != nil {
		return s, err
	}
	s.verdict, err = verify.Verify(ctx, g.objects, verify.Request{State: s.state, Tip: id, Notes: g.notes})
	if err != nil {
		return s, err
	}
	if len(s.verdict.Commits) == 0 {
		return s, errors.New(s.verdict.Message)
	}
	s.signed = s.verdict.Commits[0]
	return s, nil
}

// print says where the commit stands and how the note gets to the nodes.
func (s single) print(env *cli.Env) error {
	if s.verdict.Accepted {
		fmt.Fprintln(env.Out, "nodes accept it now; push the note:")
	} else {
		fmt.Fprintf(env.Out, "nodes do not accept it yet: %s: %s\npush the note:\n", s.verdict.Reason, s.verdict.Message)
	}
	_, err := fmt.Fprintf(env.Out, "  git push origin %s\n", source.NotesRef)
	return err
}
